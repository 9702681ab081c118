// Normal numbers in a tensor: inputs of checks and benches.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace pendulum {

// Standard normal numbers on the CPU, a function of the key and of the element alone; fp64 holds
// the fp32 values.
at::Tensor random_tensor(at::IntArrayRef shape, uint64_t key, at::ScalarType type = at::kFloat);

}  // namespace pendulum
