// Collectives through copies on another device.
#include "comm/staged_communicator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#ifdef PENDULUM_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>
#endif

#include "comm/hand_over.h"
#include "core/error.h"

namespace pendulum {
namespace {

// The call that the inner communicator makes: the same with copies of its tensors.
Call staged(const Call& call, at::Device device) {
  Call copy = call;
  if (call.send.defined()) copy.send = call.send.to(device, /*non_blocking=*/false, /*copy=*/true);
  if (call.receive.is_same(call.send)) {
    copy.receive = copy.send;
  } else if (call.receive.defined()) {
    copy.receive = at::empty(call.receive.sizes(), call.receive.options().device(device));
  }
  return copy;
}

// The same with copies that are queued behind `stream`.
Call staged_behind(Stream stream, const Call& call, at::Device device) {
#ifdef PENDULUM_CUDA
  std::optional<c10::cuda::CUDAStreamGuard> guard;
  const at::Tensor& any = call.send.defined() ? call.send : call.receive;
  if (stream.handle != nullptr && any.defined() && any.is_cuda())
    guard.emplace(c10::cuda::getStreamFromExternal(static_cast<cudaStream_t>(stream.handle),
                                                   any.device().index()));
#else
  check(stream.handle == nullptr, "no stream in a build without CUDA");
#endif
  return staged(call, device);
}

class StagedCall : public PendingCall {
 public:
  StagedCall(Call call, Watchdog* watchdog, Communicator& inner, at::Device device, Stream stream)
      : PendingCall(std::move(call), watchdog),
        copy_(staged_behind(stream, call_, device)),
        handle_(hand_over(inner, copy_)) {}

  bool done() override {
    if (!finished_ && handle_.done()) take();
    return finished_;
  }

 protected:
  void block() override {
    if (!finished_) take();
  }

 private:
  void take() {
    const at::NoGradGuard no_grad;
    handle_.wait();
    if (call_.receive.defined()) call_.receive.copy_(copy_.receive);
    copy_ = {};
    finished_ = true;
  }

  Call copy_;
  Handle handle_;
  bool finished_ = false;
};

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(Communicator& inner, std::unique_ptr<Communicator> owned, at::Device device)
      : Communicator(inner.rank(), inner.size(), inner.name()),
        owned_(std::move(owned)),
        inner_(inner),
        device_(device) {}

 protected:
  std::shared_ptr<PendingCall> start(Call call, Stream stream) override {
    return std::make_shared<StagedCall>(std::move(call), watchdog(), inner_, device_, stream);
  }

  std::unique_ptr<Communicator> make_group(const Call&, int color, int key) override {
    std::unique_ptr<Communicator> group = inner_.split(color, key);
    Communicator& members = *group;
    return std::make_unique<StagedCommunicator>(members, std::move(group), device_);
  }

 private:
  const std::unique_ptr<Communicator> owned_;  // null: inner_ belongs to somebody else
  Communicator& inner_;
  const at::Device device_;
};

}  // namespace

std::unique_ptr<Communicator> staged_communicator(Communicator& inner, at::Device device) {
  return std::make_unique<StagedCommunicator>(inner, nullptr, device);
}

}  // namespace pendulum
