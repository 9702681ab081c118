// What is different between the plan of a run and the one it goes on with.
#pragma once
#include <string>
#include <vector>

#include "pendulum/plan.h"

namespace pendulum {

// Whether two segments draw the same samples equally often.
bool draws_alike(const SegmentPlan& a, const SegmentPlan& b);

// In words, a line for each source, bucket and length that is different in the steps to come; empty
// where nothing is.
std::vector<std::string> changes_between(const Plan& saved, const Plan& now,
                                         int64_t finished_steps);

}  // namespace pendulum
