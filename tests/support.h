// Comparisons of tensors that NaN fails, and gradients by central differences.
#pragma once
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "ops/random_tensor.h"

namespace pendulum {

// Largest |actual - expected|, in fp64; infinity where shapes differ or a difference is NaN.
double largest_difference(const at::Tensor& actual, const at::Tensor& expected);
// Frobenius norm of the difference over that of `expected`; infinity as above.
double relative_difference(const at::Tensor& actual, const at::Tensor& expected);

// Whether every |actual - expected| <= bound. Says how many are not, and where and what the worst
// one is.
testing::AssertionResult near(const at::Tensor& actual, const at::Tensor& expected, double bound);

// Same type, shape and bits (NaN equals NaN).
testing::AssertionResult same_bits(const at::Tensor& actual, const at::Tensor& expected);

// The rule for two implementations of one precision, both judged by an exact one: `actual` may be
// twice as far off as `plain` is, plus 4 roundings of the largest exact value in `plain`'s type.
testing::AssertionResult as_good_as(const at::Tensor& actual, const at::Tensor& plain,
                                    const at::Tensor& exact);

// Gradients by autograd against central differences, along 8 random directions over all inputs
// (fp64) at once: for f's output summed with random weights, |<gradient, v> - (f(x + hv) - f(x -
// hv)) / 2h| <= 1e-7 (|terms| + 1), with h = 1e-4: the truncation is of order h^2 = 1e-8 times
// third derivatives near 1, the rounding eps / h = 1e-12.
using TensorFunction = std::function<at::Tensor(const std::vector<at::Tensor>&)>;
testing::AssertionResult gradients_match(const TensorFunction& f,
                                         const std::vector<at::Tensor>& inputs);

}  // namespace pendulum
