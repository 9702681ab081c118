// Open calls in their order, and NCCL's asynchronous errors.
#include "comm/nccl_monitor.h"

#include "core/error.h"

namespace pendulum {

void NcclMonitor::add(ncclComm_t comm) {
  const std::scoped_lock lock(mutex_);
  comms_.insert(comm);
}

void NcclMonitor::remove(ncclComm_t comm) {
  const std::scoped_lock lock(mutex_);
  comms_.erase(comm);
}

void NcclMonitor::add(std::string words, std::shared_ptr<c10::cuda::CUDAEvent> end) {
  const std::scoped_lock lock(mutex_);
  while (!open_.empty() && open_.front().end->query()) open_.pop_front();
  open_.push_back({std::move(words), std::move(end), Clock::now()});
}

std::string NcclMonitor::trouble(std::chrono::milliseconds timeout) {
  const std::scoped_lock lock(mutex_);
  try {
    while (!open_.empty() && open_.front().end->query()) open_.pop_front();
  } catch (const std::exception& e) {
    return text("the GPU failed under ", open_.front().words, ": ", e.what());
  }
  const std::string words = open_.empty() ? "no call" : open_.front().words;
  for (const ncclComm_t comm : comms_) {
    ncclResult_t state = ncclSuccess;
    if (ncclCommGetAsyncError(comm, &state) == ncclSuccess &&
        (state == ncclSuccess || state == ncclInProgress))
      continue;
    return text("NCCL failed under ", words, ": ", ncclGetErrorString(state), ", ",
                ncclGetLastError(comm));
  }
  if (open_.empty() || Clock::now() - open_.front().started <= timeout) return {};
  return text(words, " has been on the GPU's queue for longer than ",
              std::chrono::duration<double>(timeout).count(), " s, and ", open_.size() - 1,
              " calls after it");
}

void NcclMonitor::abort() {
  const std::scoped_lock lock(mutex_);
  for (const ncclComm_t comm : comms_) ncclCommAbort(comm);
  comms_.clear();
}

}  // namespace pendulum
