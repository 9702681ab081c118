// Matrix products with weights: a linear layer, a product without its bias, and several weights
// side by side as one.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace pendulum {

// x weight^T + bias.  x (..., K), weight (M, K), bias (M) or undefined; all of one type. Returns
// (..., M).
at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

// Two or three weights (M_i, K) or biases (M_i) as one (sum M_i, K) in the given type,
// differentiable. One product with a joined weight beats several small ones. Where they already lie
// one behind the other in memory in that type, nothing is copied.
at::Tensor joined(const std::vector<at::Tensor>& parts, at::ScalarType type);

}  // namespace pendulum
