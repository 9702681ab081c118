// Copies on a stream of their own where there is a GPU.
#include "ops/host_store.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

#ifdef PENDULUM_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

#include "core/error.h"

namespace pendulum {

#ifdef PENDULUM_CUDA
struct HostStore::Copies {
  std::optional<c10::cuda::CUDAStream> stream;

  // The copies' stream goes on after what the current one has been given so far.
  void follow(const at::Device& device) {
    if (!stream) stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index());
    at::cuda::CUDAEvent so_far;
    so_far.record(c10::cuda::getCurrentCUDAStream(device.index()));
    so_far.block(*stream);
  }
  // Body queues work on the copies' stream.
  template <class Body>
  void beside(const at::Device& /*device*/, const Body& body) {
    const c10::cuda::CUDAStreamGuard guard(*stream);
    body();
  }
  // The current stream goes on after the copies so far.
  void join(const at::Tensor& arrived) {
    const auto current = c10::cuda::getCurrentCUDAStream(arrived.device().index());
    at::cuda::CUDAEvent copied;
    copied.record(*stream);
    copied.block(current);
    arrived.record_stream(current.unwrap());
  }
};
#else
struct HostStore::Copies {
  void follow(const at::Device& /*device*/) {}
  template <class Body>
  void beside(const at::Device& device, const Body& /*body*/) {
    check(false, "a build with CUDA for a tensor on ", device);
  }
  void join(const at::Tensor& /*arrived*/) {}
};
#endif

HostStore::HostStore() : copies_(std::make_unique<Copies>()) {}
HostStore::~HostStore() = default;

size_t HostStore::put(const at::Tensor& tensor) {
  const at::NoGradGuard no_grad;
  Entry entry{{}, {}, tensor.options().requires_grad(false)};
  const at::Tensor from = tensor.detach().contiguous();
  if (from.is_cpu()) {
    entry.host = from.clone();
  } else {
    copies_->follow(from.device());
    copies_->beside(from.device(), [&] {
      entry.host = at::empty(from.sizes(), entry.options.device(at::kCPU).pinned_memory(true));
      entry.host.copy_(from, /*non_blocking=*/true);
#ifdef PENDULUM_CUDA
      from.record_stream(copies_->stream->unwrap());  // its memory is not given out before
#endif
    });
  }
  entries_.push_back(std::move(entry));
  return entries_.size() - 1;
}

void HostStore::fetch(Entry& entry) {
  if (entry.device.defined() || !entry.host.defined()) return;
  const at::NoGradGuard no_grad;
  if (entry.options.device().is_cpu()) {
    entry.device = entry.host.clone();
  } else {
    copies_->beside(entry.options.device(), [&] {
      entry.device = at::empty(entry.host.sizes(), entry.options);
      entry.device.copy_(entry.host, /*non_blocking=*/true);
    });
  }
  entry.host.reset();  // pinned memory is not given out before the copy is done
}

at::Tensor HostStore::take(size_t place) {
  Entry& entry = entries_.at(place);
  fetch(entry);
  check(entry.device.defined(), "a tensor that was not taken before: ", place);
  if (!entry.device.is_cpu()) copies_->join(entry.device);
  if (place > 0) fetch(entries_[place - 1]);
  return std::move(entry.device);
}

int HostStore::fetched() const {
  return static_cast<int>(std::count_if(entries_.begin(), entries_.end(),
                                        [](const Entry& e) { return e.device.defined(); }));
}

}  // namespace pendulum
