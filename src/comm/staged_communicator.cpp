// Collectives through copies on another device.
#include "comm/staged_communicator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "comm/hand_over.h"

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

class StagedCall : public PendingCall {
 public:
  StagedCall(Call call, Watchdog* watchdog, Communicator& inner, at::Device device)
      : PendingCall(std::move(call), watchdog),
        copy_(staged(call_, device)),
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
  std::shared_ptr<PendingCall> start(Call call, Stream) override {
    return std::make_shared<StagedCall>(std::move(call), watchdog(), inner_, device_);
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
