// How many processes share a sample of a bucket, and how many samples a slot takes when it draws
// it.
#pragma once
#include <vector>

#include "config/config.h"
#include "pendulum/plan.h"

namespace pendulum {

// Sets width, batch, passes, cost and block of a bucket whose source, shape and name are known,
// under the plan's beat and options. Throws ConfigError naming the stage's key.
void size_draw(const Plan& plan, const StageConfig& stage, BucketPlan* bucket);

// Samples that the memory of each of `width` processes holds in one pass; a large number where the
// memory is not known.
int64_t samples_in_memory(const Plan& plan, const Shape& shape, int width);

// What a group of `width` does in turn when it takes some samples: equal passes, as few as memory
// allows.
struct GroupLoad {
  int batch = 0;  // samples of a pass; 0: not even one fits
  int passes = 0;
  double cost = 0;  // of all passes, as CostModel counts
  int64_t samples() const { return int64_t{batch} * passes; }
};
// As many samples as `beat` holds; batch and passes are 0 where it holds none.
GroupLoad load_within(const Plan& plan, const Shape& shape, int width, double beat);
// So many samples (the last pass may hold fewer: its cost counts as what it holds).
GroupLoad load_of(const Plan& plan, const Shape& shape, int width, int64_t samples);

// 1 .. n, those that divide n: the widths that a slot of n processes allows.
std::vector<int> divisors(int n);

}  // namespace pendulum
