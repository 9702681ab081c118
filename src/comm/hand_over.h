// One communicator's calls made on another one.
#pragma once
#include <memory>

#include "comm/communicator.h"

namespace pendulum {

// Makes `call` on `to`, whose ranks are those of the call.
Handle hand_over(Communicator& to, const Call& call);

// The same, to stand for the call itself.
std::shared_ptr<PendingCall> handed_over(Communicator& to, Call call);

}  // namespace pendulum
