// CUDA's stream and events, or nothing.
#include "comm/side_stream.h"

#ifdef PENDULUM_CUDA
#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "comm/nccl_communicator.h"
#endif

namespace pendulum {

#ifdef PENDULUM_CUDA

namespace {

c10::cuda::CUDAStream current_beside(const c10::cuda::CUDAStream& stream) {
  return c10::cuda::getCurrentCUDAStream(stream.device_index());
}

}  // namespace

SideStream::SideStream(const Communicator& group) {
  if (const auto stream = side_stream_of(group))
    stream_ = std::make_shared<c10::cuda::CUDAStream>(*stream);
}

SideStream::Moment SideStream::run(const std::function<void()>& body) const {
  if (!exists()) {
    body();
    return nullptr;
  }
  const auto& stream = *static_cast<const c10::cuda::CUDAStream*>(stream_.get());
  c10::cuda::CUDAEvent so_far;
  so_far.record(current_beside(stream));
  so_far.block(stream);
  {
    const c10::cuda::CUDAStreamGuard guard(stream);
    body();
  }
  auto end = std::make_shared<c10::cuda::CUDAEvent>();
  end->record(stream);
  return end;
}

void SideStream::join(const Moment& moment) const {
  if (!moment) return;
  const auto& stream = *static_cast<const c10::cuda::CUDAStream*>(stream_.get());
  static_cast<c10::cuda::CUDAEvent*>(moment.get())->block(current_beside(stream));
}

#else

SideStream::SideStream(const Communicator& /*group*/) {}

SideStream::Moment SideStream::run(const std::function<void()>& body) const {
  body();
  return nullptr;
}

void SideStream::join(const Moment& /*moment*/) const {}

#endif

}  // namespace pendulum
