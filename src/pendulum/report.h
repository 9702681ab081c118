// The text of `pendulum plan`: what a run would do, stage by stage, without training.
#pragma once
#include <cstdint>
#include <string>

#include "pendulum/plan.h"

namespace pendulum {

// Aligned tables of buckets, batches, rates, cost, memory and balance. `simulated` micro-steps are
// simulated per stage at most.
std::string plan_report(const Plan& plan, int64_t simulated = 4000);

// A number with three digits and its unit's prefix: short_number(1.5e13, "FLOP") is "15.0 TFLOP".
std::string short_number(double value, const std::string& unit);

}  // namespace pendulum
