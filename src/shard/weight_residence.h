// Parameters that live with their owners alone, and with everyone while they are in use.
#pragma once
#include <vector>

#include "shard/unit_gather.h"

namespace pendulum {

// ZeRO-3 (Rajbhandari et al., arXiv 1910.02054). What comes and goes is the memory under the
// parameters' storages, so tensors that a graph has saved are whole again once their unit is back,
// and keep nothing alive before.
class WeightResidence {
 public:
  // Gives back all storages that this rank does not own. All arguments outlive this object.
  WeightResidence(const NamedTensors& parameters, const ShardLayout& layout, Communicator& group)
      : WeightResidence(parameters, layout, group, SideStream(group).exists()) {}
  // writes_ahead: as of UnitGather. What is sent for then has its memory before it is acquired.
  WeightResidence(const NamedTensors& parameters, const ShardLayout& layout, Communicator& group,
                  bool writes_ahead);

  // The unit's parameters are whole on return. `next` (kNone: nothing) is sent for meanwhile, as
  // what will be acquired after it.
  void acquire(int unit, int next = kNone);
  void release(int unit);
  bool is_resident(int unit) const { return is_resident_[unit]; }
  int units() const { return static_cast<int>(is_resident_.size()); }
  void poll() { gather_.poll(); }

  static constexpr int kNone = -1;

 private:
  void send_for(int unit);
  void allocate_unit(int unit);
  // Of a storage that another rank owns.
  struct Away {
    c10::Storage storage;
    size_t bytes;
  };
  const NamedTensors& parameters_;
  UnitGather gather_;
  std::vector<std::vector<Away>> away_;  // by unit
  std::vector<bool> is_resident_;
};

}  // namespace pendulum
