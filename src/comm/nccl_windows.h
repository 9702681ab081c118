// Memory that the GPUs of a group see of each other: NCCL's symmetric windows, and the communicator
// for the calls that are made from them.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/nccl_comm.h"
#include "comm/nccl_features.h"

namespace pendulum {

// From windows NCCL gathers with few of a GPU's processors or with none, by copy engines, and
// writes straight to where the others want it. A communicator that has failed to register memory
// can do nothing any more, so windows have one of their own, made when memory is first asked for.
class NcclWindows {
 public:
  // Of the ranks of `control` (comm/nccl_communicator.h), which outlives it.
  NcclWindows(Communicator& control, std::shared_ptr<const NcclProcess> process)
      : control_(control), process_(std::move(process)) {}

  // Null on all ranks where NCCL or the machine does not offer it, or where calls of `kind` gain
  // nothing by it; the log says which, once. Collective.
  std::unique_ptr<CollectiveMemory> make(CallKind kind, int64_t bytes);

  // Whether all that the call moves lies in windows, so that it is made on comm().
  bool hold(const Call& call) const;
  const NcclComm& comm() const { return *comm_; }

 private:
  friend class NcclWindowMemory;
  void ask();
  bool open();
  std::string obstacle() const;
  bool offers_copy_engines() const;
  bool register_on_all(const at::Tensor& bytes, NcclWindow& window);
  void release(const void* memory, NcclWindow window);
  void close(const std::string& why);
  bool all(bool mine) const;

  Communicator& control_;
  const std::shared_ptr<const NcclProcess> process_;
  std::unique_ptr<NcclComm> comm_;  // null: not yet, or no more
  enum class Offer { unknown, none, kernels, copy_engines } offer_ = Offer::unknown;
  std::map<const char*, size_t> windows_;  // first byte and their number
};

}  // namespace pendulum
