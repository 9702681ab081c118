// Splits a slot's processes into groups of neighbours.
#include "attention/slot_groups.h"

#include <numeric>

#include "core/error.h"

namespace pendulum {

SlotGroups::SlotGroups(Communicator& world, int processes, const std::vector<int>& widths,
                       int64_t heads)
    : processes_(processes) {
  check(processes >= 1 && world.size() % processes == 0, "whole slots of ", processes,
        " processes, found ", world.size());
  groups_[1];
  for (const int width : widths) groups_[std::gcd(width, processes)];
  // In ascending order on every process: the splits are collective.
  for (auto& [width, entry] : groups_) {
    entry.members = world.split(world.rank() / width, world.rank());
    entry.group = std::make_unique<SequenceGroup>(*entry.members, ulysses_part(width, heads));
  }
}

SequenceGroup& SlotGroups::of(int width) const {
  const auto found = groups_.find(std::gcd(width, processes_));
  check(found != groups_.end(), "a group of the plan's width ", width);
  return *found->second.group;
}

std::vector<int> SlotGroups::widths() const {
  std::vector<int> widths;
  for (const auto& [width, entry] : groups_) widths.push_back(width);
  return widths;
}

}  // namespace pendulum
