// Sums over a plan, and a segment's draw rule.
#include "pendulum/plan.h"

#include <set>
#include <utility>

namespace pendulum {

Segment SegmentPlan::segment(uint64_t seed, int ordinal) const {
  std::vector<uint64_t> rates;
  std::vector<int64_t> block;
  for (const BucketPlan& bucket : buckets) {
    rates.push_back(bucket.rate);
    block.push_back(bucket.block);
  }
  return {seed, ordinal, slots, dwell, std::move(rates), std::move(block)};
}

int64_t Plan::total_steps() const {
  int64_t steps = 0;
  for (const SegmentPlan& segment : segments) steps += segment.steps;
  return steps;
}

int64_t Plan::stage_steps(int number) const {
  int64_t steps = 0;
  for (const SegmentPlan& segment : segments) {
    if (segment.stage_name == segments[number].stage_name) steps += segment.steps;
  }
  return steps;
}

bool Plan::is_last_of_stage(int number) const {
  return number + 1 == static_cast<int>(segments.size()) ||
         segments[number + 1].stage_name != segments[number].stage_name;
}

double Plan::total_flops() const {
  double flops = 0;
  for (const SegmentPlan& segment : segments)
    flops += segment.expected_flops * static_cast<double>(segment.steps);
  return flops;
}

double Plan::epochs(const std::string& source, int segment) const {
  double samples = 0;
  for (const BucketPlan& bucket : segments[segment].buckets) {
    if (bucket.source == source)
      samples += bucket.samples * static_cast<double>(segments[segment].steps);
  }
  for (const SourceCatalogue& entry : sources) {
    if (entry.name == source && samples > 0)
      return samples / static_cast<double>(entry.samples.size());
  }
  return 0;
}

double Plan::epochs(const std::string& source) const {
  double sum = 0;
  for (size_t i = 0; i < segments.size(); ++i) sum += epochs(source, static_cast<int>(i));
  return sum;
}

double Plan::pass_cost(const Shape& shape, int batch, int width) const {
  return pendulum::pass_cost(geometry, shape, width, batch, options.cost, options.number_bytes) +
         pendulum::pass_cost(traffic, options.cost);
}

ProcessMemory Plan::memory(const Shape& shape, int batch, int width) const {
  return pass_memory(geometry, optimizer, dealing, shape, batch, width, options.number_bytes);
}

std::vector<int> Plan::widths() const {
  std::set<int> widths;
  for (const SegmentPlan& segment : segments) {
    for (const BucketPlan& bucket : segment.buckets) widths.insert(bucket.width);
  }
  return {widths.begin(), widths.end()};
}

}  // namespace pendulum
