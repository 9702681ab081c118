// Applying a deny-list to open sources.
#include "batch/withdrawals.h"

#include <algorithm>

#include "core/error.h"

namespace pendulum {

Withdrawals::Withdrawals(const Sources& sources, const DenyList& denied) {
  if (denied.size() == 0) return;
  for (const OpenSource& source : sources.open) {
    std::unordered_set<int64_t> found;
    for (const auto* list : {&source.training, &source.validation}) {
      for (const int64_t i : *list) {
        const Sample& sample = source.data.sample(i);
        if (denied.reason(sample.id, sample.sha256, sample.phashes)) found.insert(i);
      }
    }
    if (!found.empty()) samples_[source.name] = std::move(found);
  }
}

bool Withdrawals::holds(const std::string& source, int64_t sample) const {
  const auto found = samples_.find(source);
  return found != samples_.end() && found->second.contains(sample);
}

int64_t Withdrawals::size() const {
  int64_t count = 0;
  for (const auto& [source, samples] : samples_) count += static_cast<int64_t>(samples.size());
  return count;
}

std::map<std::string, std::vector<std::string>> Withdrawals::ids(const Sources& sources) const {
  std::map<std::string, std::vector<std::string>> out;
  for (const auto& [source, samples] : samples_) {
    std::vector<int64_t> order(samples.begin(), samples.end());
    std::sort(order.begin(), order.end());
    for (const int64_t i : order) out[source].push_back(sources[source].data.sample(i).id);
  }
  return out;
}

void Withdrawals::check_what_is_left(const Plan& plan, int segment) const {
  for (size_t i = segment; i < plan.segments.size(); ++i) {
    for (const BucketPlan& bucket : plan.segments[i].buckets) {
      const auto is_left = [&](size_t entry) {
        return !bucket.is_withdrawn(static_cast<int64_t>(entry)) &&
               !holds(bucket.source, bucket.entries[entry]);
      };
      bool any = false;
      for (size_t entry = 0; entry < bucket.entries.size() && !any; ++entry) any = is_left(entry);
      if (any) continue;
      throw DataError(text("stage ", plan.segments[i].stage_name, ": all ", bucket.entries.size(),
                           " samples of bucket ", bucket.name,
                           " are withdrawn by rights.deny; start a new run without it"));
    }
  }
}

}  // namespace pendulum
