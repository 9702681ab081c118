// NCCL's start, answers and end, asked for again and again.
#include "comm/nccl_comm.h"

#include <ATen/ATen.h>
#include <sched.h>

#include <cstring>

#include "comm/nccl_features.h"
#include "core/error.h"

namespace pendulum {
namespace {

ncclConfig_t nccl_configuration() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

}  // namespace

ncclUniqueId shared_nccl_id(Communicator& control) {
  at::Tensor bytes = at::zeros({sizeof(ncclUniqueId)}, at::kByte);
  ncclUniqueId id{};
  if (control.rank() == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    // The others wait for the id: an error here ends this rank, and the launcher them.
    if (result != ncclSuccess)
      throw Error(text("NCCL gives no name to ", control.name(), ": ", ncclGetErrorString(result)));
    std::memcpy(bytes.mutable_data_ptr(), &id, sizeof id);
  }
  control.broadcast(bytes, 0).wait();
  std::memcpy(&id, bytes.const_data_ptr(), sizeof id);
  return id;
}

NcclComm::~NcclComm() {
  if (comm_ == nullptr) return;
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    abort();  // an orderly end would wait for peers that wait for us
    return;
  }
  unwatch();
  ncclCommFinalize(comm_);
  ncclResult_t state = ncclInProgress;
  while (ncclCommGetAsyncError(comm_, &state) == ncclSuccess && state == ncclInProgress)
    ::sched_yield();
  ncclCommDestroy(comm_);
}

void NcclComm::abort() {
  if (comm_ == nullptr) return;
  unwatch();
  ncclCommAbort(comm_);
  comm_ = nullptr;
}

void NcclComm::join(const ncclUniqueId& id, int size, int rank) {
  ncclConfig_t config = nccl_configuration();
  take(ncclCommInitRankConfig(&comm_, size, id, rank, &config), "start");
  watch();
}

void NcclComm::split_from(const NcclComm& parent, int color, int key) {
  ncclConfig_t config = nccl_configuration();
  const ncclResult_t result = ncclCommSplit(parent.comm_, color, key, &comm_, &config);
  // Both must have taken it: the parent works on the split, the new one on its start. The new one
  // may appear late.
  parent.take(result, "split");
  while (comm_ == nullptr) ::sched_yield();
  take(ncclSuccess, "split");
  watch();
}

void NcclComm::take(ncclResult_t result, const char* action) const {
  result = settled(result, Duration::max());
  if (result == ncclSuccess) return;
  throw Error(text(name_, ": NCCL failed to ", action, ": ", ncclGetErrorString(result), ", ",
                   ncclGetLastError(comm_)));
}

ncclResult_t NcclComm::try_join(const ncclUniqueId& id, int size, int rank, bool by_copy_engines,
                                Duration limit) {
  ncclConfig_t config = nccl_configuration();
  if (by_copy_engines) ask_for_copy_engines(config);
  return settled(ncclCommInitRankConfig(&comm_, size, id, rank, &config), limit);
}

ncclResult_t NcclComm::settled(ncclResult_t result, Duration limit) const {
  const auto start = std::chrono::steady_clock::now();
  while (result == ncclInProgress || result == ncclSuccess) {
    ncclResult_t state = ncclSuccess;
    result = ncclCommGetAsyncError(comm_, &state);
    if (result == ncclSuccess && state == ncclSuccess) return ncclSuccess;
    if (result == ncclSuccess) result = state;
    if (std::chrono::steady_clock::now() - start > limit) return result;
    ::sched_yield();
  }
  return result;
}

}  // namespace pendulum
