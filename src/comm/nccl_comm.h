// One communicator of NCCL that never blocks the host.
#pragma once
#include <c10/core/Device.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <chrono>
#include <exception>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/nccl_monitor.h"

namespace pendulum {

// What all groups of a process share.
struct NcclProcess {
  at::Device device;
  // One stream for all groups: two groups' kernels that wait for each other's peers in different
  // orders on different ranks would wait for ever. Of high priority, or a long kernel keeps it out.
  c10::cuda::CUDAStream stream;
  c10::cuda::CUDAStream side;
  std::shared_ptr<NcclMonitor> monitor;
};

// A name that rank 0 has got from NCCL, for a new communicator of the ranks of `control`.
// Collective.
ncclUniqueId shared_nccl_id(Communicator& control);

// Calls are repeated until NCCL has taken them.
class NcclComm {
 public:
  NcclComm(std::shared_ptr<const NcclProcess> process, std::string name)
      : process_(std::move(process)), name_(std::move(name)) {}
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;

  const NcclProcess& process() const { return *process_; }
  ncclComm_t get() const { return comm_; }

  // Error where NCCL fails. From then on the process's monitor watches the communicator.
  void join(const ncclUniqueId& id, int size, int rank);
  void split_from(const NcclComm& parent, int color, int key);

  // Waits until NCCL has put on the stream what `result` is the answer to; Error names `action`.
  void take(ncclResult_t result, const char* action) const;

  // For what may fail without harm to anybody: no Error, and ncclInProgress after `limit`. The
  // monitor, which would end the process, watches only from watch() to unwatch().
  using Duration = std::chrono::steady_clock::duration;
  ncclResult_t try_join(const ncclUniqueId& id, int size, int rank, bool by_copy_engines,
                        Duration limit);
  ncclResult_t settled(ncclResult_t result, Duration limit) const;
  void watch() { process_->monitor->add(comm_); }
  void unwatch() { process_->monitor->remove(comm_); }
  // Ends it at once, whatever the others do.
  void abort();

 private:
  const std::shared_ptr<const NcclProcess> process_;
  const std::string name_;
  const int exceptions_at_start_ = std::uncaught_exceptions();
  ncclComm_t comm_ = nullptr;
};

}  // namespace pendulum
