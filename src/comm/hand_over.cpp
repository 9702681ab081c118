// Calls of one communicator on another.
#include "comm/hand_over.h"

#include "core/error.h"

namespace pendulum {
namespace {

class HandedOver : public PendingCall {
 public:
  HandedOver(Call call, Handle handle)
      : PendingCall(std::move(call), nullptr), handle_(std::move(handle)) {}
  bool done() override { return handle_.done(); }

 protected:
  void block() override { handle_.wait(); }

 private:
  Handle handle_;
};

}  // namespace

Handle hand_over(Communicator& to, const Call& call) {
  switch (call.kind) {
    case CallKind::all_reduce:
      return to.all_reduce(call.receive, call.reduce);
    case CallKind::all_gather:
      return to.all_gather(call.send, call.receive);
    case CallKind::reduce_scatter:
      return to.reduce_scatter(call.send, call.receive, call.reduce);
    case CallKind::all_to_all:
      return to.all_to_all(call.send, call.receive);
    case CallKind::send_recv:
      return to.send_recv(call.send, call.to, call.receive, call.from);
    case CallKind::broadcast:
      return to.broadcast(call.receive, call.from);
    case CallKind::barrier:
      to.barrier();
      return {};
    case CallKind::split:
      break;
  }
  check(false, "a call that can be handed over: ", call.name());
  return {};
}

std::shared_ptr<PendingCall> handed_over(Communicator& to, Call call) {
  Handle handle = hand_over(to, call);
  return std::make_shared<HandedOver>(std::move(call), std::move(handle));
}

}  // namespace pendulum
