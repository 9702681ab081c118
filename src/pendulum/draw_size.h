// How many processes share a sample of a bucket, and how many samples a slot takes when it draws
// it.
#pragma once
#include <vector>

#include "config/config.h"
#include "pendulum/plan.h"

namespace pendulum {

// Sets width, cost, batch and block of a bucket whose source, shape and name are known, under the
// plan's beat and options. Throws ConfigError naming the stage's key.
void size_draw(const Plan& plan, const StageConfig& stage, BucketPlan* bucket);

// 1 .. n, those that divide n: the widths that a slot of n processes allows.
std::vector<int> divisors(int n);

}  // namespace pendulum
