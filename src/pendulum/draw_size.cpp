// Width and batch from the beat and the memory, or as the stage gives them.
#include "pendulum/draw_size.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace pendulum {
namespace {

// Bytes that one sample needs on each of `width` processes, and what is free for samples.
double sample_memory(const Plan& plan, const Shape& shape, int width) {
  return activation_bytes(plan.geometry, shape, 1, width, plan.options.number_bytes);
}
double free_memory(const Plan& plan) {
  return plan.options.memory_bytes - state_bytes(plan.geometry, plan.moving_average, plan.updaters);
}

double cost_at(const Plan& plan, const Shape& shape, int width) {
  return sample_cost(plan.geometry, shape, width, plan.options.flops_per_byte,
                     plan.options.number_bytes);
}

// The smallest width that fits memory and beat; where none meets the beat, the smallest that fits.
int choose_width(const Plan& plan, const StageConfig& stage, const BucketPlan& bucket) {
  const auto given = stage.width.find(bucket.source);
  if (given != stage.width.end()) {
    if (given->second >= 1 && plan.slot % given->second == 0) return given->second;
    throw ConfigError(fmt::format(
        "stages.{}.width.{}: {} does not divide mesh.slot {}; possible are {}", stage.name,
        bucket.source, given->second, plan.slot, fmt::join(divisors(plan.slot), ", ")));
  }
  int fitting = 0;
  for (const int width : plan.options.widths) {
    if (plan.options.memory_bytes > 0 &&
        sample_memory(plan, bucket.shape, width) > free_memory(plan)) {
      continue;
    }
    if (plan.beat > 0 && cost_at(plan, bucket.shape, width) <= plan.beat) return width;
    if (fitting == 0) fitting = width;
  }
  if (fitting > 0) return fitting;
  throw ConfigError(text("stages.", stage.name, ": one sample of ", bucket.name,
                         " does not fit the memory of ", plan.options.widths.back(), " devices"));
}

// What the beat and the memory hold, at least 1.
int choose_batch(const Plan& plan, const StageConfig& stage, const BucketPlan& bucket) {
  const auto given = stage.batch.find(bucket.source);
  if (given != stage.batch.end()) {
    if (given->second >= 1) return given->second;
    throw ConfigError(text("stages.", stage.name, ".batch.", bucket.source, ": ", given->second,
                           " is not possible; at least 1"));
  }
  if (plan.beat <= 0) {
    throw ConfigError(
        text("stages.", stage.name, ".batch.", bucket.source,
             ": missing; give the samples per process here or mesh.beat for all stages"));
  }
  double most = std::floor(plan.beat / bucket.cost);
  if (plan.options.memory_bytes > 0) {
    const double one = sample_memory(plan, bucket.shape, bucket.width);
    most = std::min(most, std::floor(free_memory(plan) / one));
  }
  return static_cast<int>(std::clamp(most, 1.0, 1e6));
}

}  // namespace

std::vector<int> divisors(int n) {
  std::vector<int> all;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) all.push_back(d);
  }
  return all;
}

void size_draw(const Plan& plan, const StageConfig& stage, BucketPlan* bucket) {
  bucket->width = choose_width(plan, stage, *bucket);
  bucket->cost = cost_at(plan, bucket->shape, bucket->width);
  bucket->batch = choose_batch(plan, stage, *bucket);
  bucket->block = int64_t{plan.slot / bucket->width} * bucket->batch;
}

}  // namespace pendulum
