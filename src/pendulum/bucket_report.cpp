// Formats how samples fall into buckets.
#include "pendulum/bucket_report.h"

#include <fmt/format.h>

#include <algorithm>

namespace pendulum {

std::string bucket_report(const Plan& plan) {
  std::string out;
  for (const SegmentPlan& segment : plan.segments) {
    out += fmt::format("\nbuckets of stage {}\n", segment.stage_name);
    size_t longest = 6;
    for (const BucketPlan& bucket : segment.buckets)
      longest = std::max(longest, bucket.name.size());
    out += fmt::format("  {:<{}}  {:>9}  {:>8}  {:>8}\n", "bucket", longest, "samples", "cropped",
                       "enlarged");
    for (const BucketPlan& bucket : segment.buckets) {
      out += fmt::format("  {:<{}}  {:>9}  {:>6.1f} %  {:>8}\n", bucket.name, longest,
                         bucket.entries.size(), 100 * bucket.crop, bucket.enlarged);
    }
    for (const auto& [source, reasons] : segment.refused) {
      for (const auto& [reason, count] : reasons)
        out += fmt::format("  refused: {} of source {}: {}\n", count, source, reason);
    }
  }
  return out;
}

}  // namespace pendulum
