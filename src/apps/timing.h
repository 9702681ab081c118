// What the benches share: a clock, the median of repeated times, and inputs.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace pendulum {

double seconds_now();  // of a clock that only goes forward
double median(std::vector<double> values);
// Standard normal fp32 numbers on the CPU, a function of the key.
at::Tensor random_tensor(at::IntArrayRef sizes, uint64_t key);

}  // namespace pendulum
