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
  return plan.options.memory_bytes - state_bytes(plan.geometry, plan.optimizer, plan.dealing);
}

double cost_at(const Plan& plan, const Shape& shape, int width, int batch) {
  return plan.pass_cost(shape, batch, width);
}

// A wider group has to bring so many more samples into a draw; below that, its exchange is not
// worth what the cost model may have wrong.
constexpr double kWorthwhile = 1.05;

// Of the widths that fit memory and beat, the one with which a draw holds most samples, and of
// those the smallest; where none meets the beat, the one that comes nearest, for all slots wait.
int choose_width(const Plan& plan, const StageConfig& stage, const BucketPlan& bucket) {
  const auto given = stage.width.find(bucket.source);
  if (given != stage.width.end()) {
    if (given->second >= 1 && plan.slot % given->second == 0) return given->second;
    throw ConfigError(fmt::format(
        "stages.{}.width.{}: {} does not divide mesh.slot {}; possible are {}", stage.name,
        bucket.source, given->second, plan.slot, fmt::join(divisors(plan.slot), ", ")));
  }
  int nearest = 0, best = 0;
  double least = 0, most = 0;
  for (const int width : plan.options.widths) {
    if (samples_in_memory(plan, bucket.shape, width) < 1) continue;
    const double one = cost_at(plan, bucket.shape, width, 1);
    if (nearest == 0 || (plan.beat > 0 && one * kWorthwhile < least)) {
      least = one;
      nearest = width;
    }
    const auto block = static_cast<double>(
        plan.slot / width * load_within(plan, bucket.shape, width, plan.beat).samples());
    if (block > kWorthwhile * most) {
      most = block;
      best = width;
    }
  }
  if (nearest > 0) return best > 0 ? best : nearest;
  const int widest = plan.options.widths.back();
  throw ConfigError(text(
      "stages.", stage.name, ".sources.", bucket.source, ": one sample of ", bucket.name,
      " does not fit: shared by ", widest, " devices, the most that mesh.slot allows, it needs ",
      sample_memory(plan, bucket.shape, widest) * 1e-9, " GB on each, ",
      std::max(0.0, free_memory(plan)) * 1e-9, " of mesh.device_memory_gb ",
      plan.options.memory_bytes * 1e-9, " are left beside weights and optimiser"));
}

// As the stage gives it, or what beat and memory hold, at least one sample.
GroupLoad choose_load(const Plan& plan, const StageConfig& stage, const BucketPlan& bucket) {
  const auto given = stage.batch.find(bucket.source);
  if (given != stage.batch.end()) {
    if (given->second < 1) {
      throw ConfigError(text("stages.", stage.name, ".batch.", bucket.source, ": ", given->second,
                             " is not possible; at least 1"));
    }
    return {given->second, 1, cost_at(plan, bucket.shape, bucket.width, given->second)};
  }
  if (plan.beat <= 0) {
    throw ConfigError(
        text("stages.", stage.name, ".batch.", bucket.source,
             ": missing; give the samples per process here or mesh.beat for all stages"));
  }
  const GroupLoad load = load_within(plan, bucket.shape, bucket.width, plan.beat);
  if (load.passes > 0) return load;
  return {1, 1, cost_at(plan, bucket.shape, bucket.width, 1)};
}

// Samples of one pass whose cost stays within `room`.
int64_t batch_within(const Plan& plan, const Shape& shape, int width, double room) {
  const double first = cost_at(plan, shape, width, 1);
  const double more = cost_at(plan, shape, width, 2) - first;
  constexpr double kRounding = 1 + 1e-9;  // a beat may be the very cost of a sample
  if (first > room * kRounding) return 0;
  return 1 + static_cast<int64_t>(std::clamp((room * kRounding - first) / more, 0.0, 1e6));
}

}  // namespace

int64_t samples_in_memory(const Plan& plan, const Shape& shape, int width) {
  constexpr double kMany = 1e9;
  if (plan.options.memory_bytes <= 0) return static_cast<int64_t>(kMany);
  const double most = free_memory(plan) / sample_memory(plan, shape, width);
  return static_cast<int64_t>(std::clamp(most, 0.0, kMany));
}

GroupLoad load_within(const Plan& plan, const Shape& shape, int width, double beat) {
  const int64_t room = samples_in_memory(plan, shape, width);
  const int64_t at_once = batch_within(plan, shape, width, beat);
  if (room < 1 || at_once < 1) return {};
  // As few passes as memory allows, or one less of full ones, whichever holds more.
  GroupLoad best;
  const int64_t fewest = (at_once + room - 1) / room;
  for (const int64_t passes : {fewest, fewest - 1}) {
    if (passes < 1) continue;
    const int64_t batch =
        std::min(room, batch_within(plan, shape, width, beat / static_cast<double>(passes)));
    if (passes * batch <= best.samples()) continue;
    best = {static_cast<int>(batch), static_cast<int>(passes),
            static_cast<double>(passes) * cost_at(plan, shape, width, static_cast<int>(batch))};
  }
  return best;
}

GroupLoad load_of(const Plan& plan, const Shape& shape, int width, int64_t samples) {
  const int64_t room = std::min(samples, samples_in_memory(plan, shape, width));
  if (room < 1) return {};
  const int64_t passes = (samples + room - 1) / room;
  const int64_t last = samples - (passes - 1) * room;
  return {static_cast<int>(room), static_cast<int>(passes),
          static_cast<double>(passes - 1) * cost_at(plan, shape, width, static_cast<int>(room)) +
              cost_at(plan, shape, width, static_cast<int>(last))};
}

std::vector<int> divisors(int n) {
  std::vector<int> all;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) all.push_back(d);
  }
  return all;
}

void size_draw(const Plan& plan, const StageConfig& stage, BucketPlan* bucket) {
  bucket->width = choose_width(plan, stage, *bucket);
  const GroupLoad load = choose_load(plan, stage, *bucket);
  bucket->batch = load.batch;
  bucket->passes = load.passes;
  bucket->cost = load.cost;
  bucket->block = plan.slot / bucket->width * load.samples();
}

}  // namespace pendulum
