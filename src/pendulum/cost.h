// What a sample costs: tokens, FLOPs, parameters, memory and communication of the transformer, from
// its geometry alone.
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "core/shape.h"

namespace pendulum {

// The transformer and the codec in front of it, as far as cost depends on them.
struct Geometry {
  int layers = 0;
  int width = 0;  // of the model: heads * head_dim
  int ffn_dim = 0;
  int freq_dim = 256;
  int text_length = 0;  // tokens, padded
  int text_dim = 0;
  int spatial = 1;                    // pixels per latent pixel
  int temporal = 1;                   // frames per latent frame after the first
  std::array<int, 3> patch{1, 2, 2};  // latent (time, height, width) per token
  int channels = 0;                   // of the latents
  bool cross_attn_norm = true;
  int heads = 1;
  std::string activation_checkpointing = "none";  // none, selective, full
};

// Tokens of one sample. ConfigError names the side of the shape that does not divide.
int64_t tokens(const Geometry& geometry, const Shape& shape);

// The largest number of frames, at most `frames`, that codec and patch divide; 0 where there is
// none.
int fitting_frames(const Geometry& geometry, int frames);

// FLOPs of the forward pass of one sample, a multiply-add counted as 2: the matrix products
// (self-attention 4 N^2 d a layer included), text and time embedding. Norms, rotation and softmax
// are left out, about 1 %.
double forward_flops(const Geometry& geometry, const Shape& shape);

// Forward and backward, 3 times the forward pass; nothing is recomputed.
double training_flops(const Geometry& geometry, const Shape& shape);

// Trainable numbers, equal to the published model's.
int64_t parameter_count(const Geometry& geometry);

// Bytes that each process sends, and receives, per sample in training when `width` of them share
// it: what attention sends by Ulysses and ring, forward and backward (docs/numerics.md). The
// gathering of the output, once for all layers, is left out. 0 at width 1.
double communication_bytes(const Geometry& geometry, const Shape& shape, int width,
                           int number_bytes);

// Cost C_s(c) of one sample on each of `width` processes, in FLOPs; communication counts
// `flops_per_byte` each.
double sample_cost(const Geometry& geometry, const Shape& shape, int width, double flops_per_byte,
                   int number_bytes);

// Bytes per process that stay: fp32 weights and gradients, and, dealt over `updaters` processes,
// two moments and the moving average where there is one.
double state_bytes(const Geometry& geometry, bool moving_average, int updaters);

// Estimate of what one process keeps for the backward pass of `batch` samples: 16 rows of the
// model's width and 2 of the hidden layer's for every token and layer, or what activation
// checkpointing leaves of them.
double activation_bytes(const Geometry& geometry, const Shape& shape, int batch, int width,
                        int number_bytes);

}  // namespace pendulum
