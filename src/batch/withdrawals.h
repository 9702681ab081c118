// The samples that a deny-list withdraws from a run under way: never read any more, whether from
// media or from the cache.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <unordered_set>
#include <vector>

#include "batch/sources.h"
#include "pendulum/plan.h"
#include "rights/deny_list.h"

namespace pendulum {

class Withdrawals {
 public:
  Withdrawals() = default;
  // Of the sources' training and held-out samples, those that the list denies. Equal on all
  // processes that hold the same list.
  Withdrawals(const Sources& sources, const DenyList& denied);

  // sample: its index in the source's data.
  bool holds(const std::string& source, int64_t sample) const;
  int64_t size() const;
  // Ids by source, in the order of the data; sources without any are left out.
  std::map<std::string, std::vector<std::string>> ids(const Sources& sources) const;
  // DataError naming a bucket of this segment or a later one that has no sample left.
  void check_what_is_left(const Plan& plan, int segment) const;

 private:
  std::map<std::string, std::unordered_set<int64_t>> samples_;
};

}  // namespace pendulum
