// FirstFrame::latent: the first latent frame of a clip that is given stands free of noise, at time
// 0.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>

namespace pendulum {

// Legend: B samples, C latent channels, F x H x W latent grid, N tokens in the order (frame, row,
// column). given: (B) bool, which samples are given their first latent frame, start (B, C, 1, H,
// W).

// x (B, C, F, H, W) with the given frames in place of its own.
at::Tensor with_first_latent(const at::Tensor& x, const at::Tensor& start, const at::Tensor& given);

// time (B) or (B, N) as (B, N), 0 at the tokens of given frames. latents: of x's sizes.
at::Tensor first_latent_time(const at::Tensor& time, const at::Tensor& given,
                             at::IntArrayRef latents, const std::array<int, 3>& patch);

// (B): mean of squared errors (B, C, F, H, W) over what a sample is to make: all but a given frame.
at::Tensor mean_of_made(const at::Tensor& squares, const at::Tensor& given);

}  // namespace pendulum
