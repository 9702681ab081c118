// The groups in which the processes of a slot share samples, one for every width that a run uses.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "attention/sequence_group.h"

namespace pendulum {

class SlotGroups {
 public:
  // `world` in slots of `processes` neighbours; `widths` as the plan's buckets give them; `heads`
  // of the model. Width 1 is always among them. Collective.
  SlotGroups(Communicator& world, int processes, const std::vector<int>& widths, int64_t heads);

  // The group that shares a sample which the plan gives to `width` processes: with fewer processes
  // in a slot than the plan has places, the greatest common divisor of both.
  SequenceGroup& of(int width) const;
  // Widths of the groups that there are, ascending; the first is 1.
  std::vector<int> widths() const;

 private:
  struct Entry {
    std::unique_ptr<Communicator> members;
    std::unique_ptr<SequenceGroup> group;
  };
  int processes_;
  std::map<int, Entry> groups_;  // by the width they have here
};

}  // namespace pendulum
