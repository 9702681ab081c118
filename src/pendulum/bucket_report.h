// How samples fall into buckets, in words.
#pragma once
#include <string>

#include "pendulum/plan.h"

namespace pendulum {

// By stage: samples of each bucket, what is cropped and enlarged, and what is refused and why.
std::string bucket_report(const Plan& plan);

}  // namespace pendulum
