// Memory that a group's calls are made from again and again.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "comm/communicator.h"

namespace pendulum {

// Where the group knows memory that its calls move faster (NCCL: comm/nccl_windows.h), this is
// some. On CPUs it is memory that is used again in the same way, so that tests see what a GPU
// would; elsewhere every tensor has memory of its own.
class CollectiveBuffer {
 public:
  // For calls of `kind` in `group`, which outlives it.
  CollectiveBuffer(Communicator& group, CallKind kind) : group_(group), kind_(kind) {}
  CollectiveBuffer(const CollectiveBuffer&) = delete;
  CollectiveBuffer& operator=(const CollectiveBuffer&) = delete;

  // Contiguous, holding nothing that means anything, and lost with the next call of take(): what a
  // graph saves or a caller keeps must be a copy. All that is done with it is queued on one stream,
  // or behind what is queued there; what its calls have been given must have been waited for. All
  // ranks ask for the same, for the memory grows by a collective call.
  at::Tensor take(at::IntArrayRef sizes, at::TensorOptions options);
  // So many bytes at once, so that less than that makes no call. Collective.
  void reserve(int64_t bytes, at::Device device);

  // Whether tensors come out of memory that is used again.
  bool is_kept() const { return memory_ != nullptr; }

 private:
  Communicator& group_;
  const CallKind kind_;
  std::unique_ptr<CollectiveMemory> memory_;
  bool is_refused_ = false;
};

}  // namespace pendulum
