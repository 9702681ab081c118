// RMS norm over channels and SiLU in one pass, written where the next convolution reads it.
#pragma once
#include <ATen/core/Tensor.h>

namespace pendulum {

// out = silu(x / max(|x|, 1e-12) * sqrt(D) * gamma) along the last dimension. out and x (N, ..., D)
// of one type, each of the N contiguous; gamma (D), of the same. Not differentiable.
void rms_silu(const at::Tensor& out, const at::Tensor& x, const at::Tensor& gamma);

}  // namespace pendulum
