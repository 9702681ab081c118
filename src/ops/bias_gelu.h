// The feed-forward layer's activation as one differentiable operation.
#pragma once
#include <ATen/core/Tensor.h>

namespace pendulum {

// gelu(x + bias) with the tanh form of GELU; x (..., D) is a matrix product whose bias was left
// out, bias (D) is fp32 where x is bf16, else of x's type.
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias);

}  // namespace pendulum
