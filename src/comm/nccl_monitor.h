// The calls and communicators of NCCL that are open in this process, for its watchdog.
#pragma once
#include <c10/cuda/CUDAEvent.h>
#include <nccl.h>

#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace pendulum {

// Used from the thread that calls and from the watchdog's.
class NcclMonitor {
 public:
  using Clock = std::chrono::steady_clock;

  void add(ncclComm_t comm);
  void remove(ncclComm_t comm);
  // A call that has been queued, done when `end` has passed. Calls end in the order of their start.
  void add(std::string words, std::shared_ptr<c10::cuda::CUDAEvent> end);

  // What is wrong: an error that NCCL met on its own, or a call that is older than the timeout.
  // Empty: nothing.
  std::string trouble(std::chrono::milliseconds timeout);
  // Ends NCCL's kernels, whatever they wait for. Nothing can be called afterwards.
  void abort();

 private:
  struct Open {
    std::string words;
    std::shared_ptr<c10::cuda::CUDAEvent> end;
    Clock::time_point started;
  };
  std::mutex mutex_;
  std::set<ncclComm_t> comms_;
  std::deque<Open> open_;
};

}  // namespace pendulum
