// A communicator whose ranks are threads of this process: tests without a launcher, and the single
// process of a plain run.
#pragma once
#include <chrono>
#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace pendulum {

// The group of one rank.
std::unique_ptr<Communicator> single_communicator();

// Runs body on `ranks` threads, each with its own rank of one group, and returns when all have
// ended. Where a rank throws, the others' calls fail and the first exception is thrown on. A call
// that the others never make fails when they end, or after the timeout. GPU tensors are taken on
// the default stream alone.
void run_loopback(int ranks, const std::function<void(Communicator&)>& body,
                  std::chrono::milliseconds timeout = std::chrono::minutes(2));

}  // namespace pendulum
