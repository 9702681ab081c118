// Between latents and tokens: patches, their positions' rotation angles, and the code of a time.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "ops/norm_rotary.h"

namespace pendulum {

// Legend: B samples, C channels, F x H x W latent, f x h x w tokens, p = patch elements per
// channel.
using Grid = std::array<int64_t, 3>;  // tokens: time, height, width

// (B, C, F, H, W) -> (B, f h w, C p): a convolution whose stride is its kernel becomes a matrix
// product with the weight (D, C, pt, ph, pw) read as (D, C p), several times faster on a CPU.
at::Tensor to_patches(const at::Tensor& latents, std::array<int, 3> patch);

// (B, f h w, p C), channels innermost as proj_out gives them -> (B, C, F, H, W).
at::Tensor from_patches(const at::Tensor& patches, const Grid& grid, std::array<int, 3> patch);

// Angles of the tokens of a grid. A head's pairs are split among time, height and width: 2 (d / 6)
// elements for height and for width each, the rest for time; pair i of an axis with e elements
// turns by position * 10000^(-2 i / e). Computed in fp64 and rounded to fp32 as the reference does,
// whatever the type.
RotaryTables rotary_tables(const Grid& grid, int64_t head_dim, const at::TensorOptions& options);

// Sinusoidal code (n, dim) of times (n) in [0, 1000]: cosines, then sines, of time * 10000^(-i /
// (dim / 2)). fp32 as in the reference, also for fp64 models.
at::Tensor time_code(const at::Tensor& time, int64_t dim);

}  // namespace pendulum
