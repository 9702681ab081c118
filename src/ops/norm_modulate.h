// Layer norm and modulation as one differentiable operation.
#pragma once
#include <ATen/core/Tensor.h>

namespace pendulum {

// norm(x) * (offset + scale) + shift, norm over the last dimension without own weights.
//   x (B, N, D); scale, shift (B, D): one per sample, (B, N, D): one per token, or (D): one for all
//   (an affine norm, with offset 0). They are fp32 where x is bf16, else of x's type; views with
//   equal strides are used in place.
// Returns (B, N, D) of x's type. Statistics are computed in fp32 or wider.
at::Tensor norm_modulate(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift,
                         double eps, double offset = 1.0);

}  // namespace pendulum
