// Compares what is still to be drawn, stage by stage and bucket by bucket.
#include "pendulum/plan_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "pendulum/walker.h"

namespace pendulum {
namespace {

bool draws_alike(const BucketPlan& a, const BucketPlan& b) {
  return a.uid == b.uid && a.entries == b.entries && a.withdrawn == b.withdrawn &&
         a.batch == b.batch && a.width == b.width && a.block == b.block && a.rate == b.rate;
}

// The last segment of a stage: where it stands in the end.
const SegmentPlan* last_of(const Plan& plan, const std::string& stage) {
  const SegmentPlan* found = nullptr;
  for (const SegmentPlan& segment : plan.segments) {
    if (segment.stage_name == stage) found = &segment;
  }
  return found;
}

const BucketPlan* find(const SegmentPlan& segment, uint64_t uid) {
  for (const BucketPlan& bucket : segment.buckets) {
    if (bucket.uid == uid) return &bucket;
  }
  return nullptr;
}

double share(const SegmentPlan& segment, const BucketPlan& bucket) {
  double weights = 0;
  for (const BucketPlan& other : segment.buckets) weights += other.weight;
  return bucket.weight / weights;
}

void compare(const BucketPlan& before, const BucketPlan& after, const std::string& where,
             std::vector<std::string>* what) {
  const auto say = [&](const std::string& words) {
    what->push_back(fmt::format("{}bucket {}: {}", where, after.name, words));
  };
  if (after.entries.size() > before.entries.size())
    say(fmt::format("{} samples added", after.entries.size() - before.entries.size()));
  std::vector<int64_t> gone, back;
  std::set_difference(after.withdrawn.begin(), after.withdrawn.end(), before.withdrawn.begin(),
                      before.withdrawn.end(), std::back_inserter(gone));
  std::set_difference(before.withdrawn.begin(), before.withdrawn.end(), after.withdrawn.begin(),
                      after.withdrawn.end(), std::back_inserter(back));
  if (!gone.empty()) say(fmt::format("{} samples withdrawn", gone.size()));
  if (!back.empty()) say(fmt::format("{} withdrawn samples are back", back.size()));
  if (before.width != after.width)
    say(fmt::format("width was {}, is now {}", before.width, after.width));
  if (before.batch != after.batch)
    say(fmt::format("batch was {}, is now {}", before.batch, after.batch));
}

void compare(const SegmentPlan& before, const SegmentPlan& after, std::vector<std::string>* what) {
  const std::string where = fmt::format("stage {}, ", after.stage_name);
  for (const BucketPlan& bucket : before.buckets) {
    if (!find(after, bucket.uid))
      what->push_back(fmt::format("{}bucket {} is no longer drawn", where, bucket.name));
  }
  for (const BucketPlan& bucket : after.buckets) {
    const BucketPlan* old = find(before, bucket.uid);
    if (!old) {
      what->push_back(fmt::format("{}bucket {} is new: {} samples, weight {:.4g} of all", where,
                                  bucket.name, bucket.entries.size(), share(after, bucket)));
      continue;
    }
    compare(*old, bucket, where, what);
    if (std::abs(share(before, *old) - share(after, bucket)) > 1e-12) {
      what->push_back(fmt::format("{}bucket {}: weight was {:.4g} of all, is now {:.4g}", where,
                                  bucket.name, share(before, *old), share(after, bucket)));
    }
  }
}

}  // namespace

bool draws_alike(const SegmentPlan& a, const SegmentPlan& b) {
  return a.slots == b.slots && a.accumulate == b.accumulate && a.dwell == b.dwell &&
         std::equal(a.buckets.begin(), a.buckets.end(), b.buckets.begin(), b.buckets.end(),
                    [](const BucketPlan& x, const BucketPlan& y) { return draws_alike(x, y); });
}

std::vector<std::string> changes_between(const Plan& saved, const Plan& now,
                                         int64_t finished_steps) {
  std::vector<std::string> what;
  std::set<std::string> stages;
  for (size_t i = position_after(now, std::min(finished_steps, now.total_steps())).segment;
       i < now.segments.size(); ++i) {
    const std::string& stage = now.segments[i].stage_name;
    if (!stages.insert(stage).second) continue;
    const SegmentPlan *before = last_of(saved, stage), *after = last_of(now, stage);
    if (!before) {
      what.push_back(fmt::format("stage {} is new: {} steps", stage, after->steps));
      continue;
    }
    if (!draws_alike(*before, *after)) compare(*before, *after, &what);
    const auto steps = [&](const Plan& plan, const SegmentPlan* segment) {
      return plan.stage_steps(static_cast<int>(segment - plan.segments.data()));
    };
    if (steps(saved, before) != steps(now, after)) {
      what.push_back(fmt::format("stage {}: steps were {}, are now {}", stage, steps(saved, before),
                                 steps(now, after)));
    }
  }
  if (what.empty() && saved.total_steps() != now.total_steps()) {
    what.push_back(fmt::format("steps of the run were {}, are now {}", saved.total_steps(),
                               now.total_steps()));
  }
  return what;
}

}  // namespace pendulum
