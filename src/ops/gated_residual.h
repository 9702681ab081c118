// The residual step as one differentiable operation.
#pragma once
#include <ATen/core/Tensor.h>

namespace pendulum {

// x + (y + bias) * gate. y is a matrix product whose bias was left out, to save a pass over it.
//   x, y (B, N, D); bias (D); gate (B, D): one per sample, (B, N, D): one per token, or undefined:
//   1
// bias and gate are fp32 where x is bf16, else of x's type. Returns (B, N, D) of x's type.
at::Tensor gated_residual(const at::Tensor& x, const at::Tensor& y, const at::Tensor& bias,
                          const at::Tensor& gate = {});

}  // namespace pendulum
