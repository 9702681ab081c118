// Brings the values of a unit's parameters from their owners to all ranks, in the background.
#pragma once
#include <map>
#include <vector>

#include "comm/communicator.h"
#include "shard/shard_layout.h"

namespace pendulum {

class UnitGather {
 public:
  // `parts` by unit; both outlive this object. Values are fp32.
  UnitGather(const std::vector<Parts>& parts, Communicator& group, at::TensorOptions options)
      : parts_(parts), group_(group), options_(options) {}

  // Sends this rank's part, which may change once this has returned. Collective, like all calls of
  // a group in the same order on all ranks; a unit that is under way is left alone.
  void start(size_t unit, const Flat& from);
  // Waits, and writes the others' parts. start() must have been called.
  void finish(size_t unit, const Flat& to);
  // Moves what is under way on; never waits.
  void poll();

 private:
  struct Window {
    int64_t first;
    at::Tensor mine, all;  // (length), (ranks, length)
    Handle handle;
  };
  const std::vector<Parts>& parts_;
  Communicator& group_;
  at::TensorOptions options_;
  std::map<size_t, std::vector<Window>> under_way_;  // by unit
};

}  // namespace pendulum
