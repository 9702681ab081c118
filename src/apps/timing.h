// What the benches share: a clock, and the median of repeated times.
#pragma once
#include <vector>

namespace pendulum {

double seconds_now();  // of a clock that only goes forward
double median(std::vector<double> values);

}  // namespace pendulum
