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
  bool offloads = false;                          // blocks' inputs wait in host memory
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

// What a process sends, and receives, so that attention sees a sequence that several share.
struct Traffic {
  double exchanged = 0;  // bytes, by Ulysses' all-to-alls
  double passed = 0;     // bytes, round the ring
  double calls = 0;      // collective calls and passes
  double bytes() const { return exchanged + passed; }
};

// Of one layer's training, `numbers` elements (samples x tokens per process x model width) of
// `number_bytes` each, shared by ulysses x ring processes; docs/numerics.md. `exchanges` times its
// inputs and outputs change hands, `walks` times keys and values go round: once forward, once
// backward, and once more for what activation checkpointing computes again.
Traffic attention_traffic(double numbers, int number_bytes, int ulysses, int ring,
                          int exchanges = 2, int walks = 2);

// Of one sample in training when `width` processes share it, with the largest Ulysses part that
// divides the heads. The gathering of the output, once for all layers, is left out.
Traffic sample_traffic(const Geometry& geometry, const Shape& shape, int width, int number_bytes);

// Bytes that each process sends per optimiser step, so that all hold the sum of the gradients
// (fp32, a ring) or, with ZeRO, their part of it and then the updated weights.
double update_bytes(const Geometry& geometry, int processes);

// FLOPs that one process really does for one sample in training: what `width` of them share, what
// each does for itself (the text's states and their keys and values, the time's embedding), and
// what activation checkpointing computes again.
struct Work {
  double matrix = 0;     // products with weights
  double attention = 0;  // scores and their products with values
};
Work sample_work(const Geometry& geometry, const Shape& shape, int width);

// How long things take, in the FLOPs of a matrix product that a process does meanwhile: a plan
// needs no clock. Computed from the YAML, or measured (calibration.h).
struct CostModel {
  double flops_per_second = 0;  // in products with weights; 0: not known, so nothing is in seconds
  double attention = 1;         // an attention FLOP
  double per_pass = 0;          // a group's pass, whatever it holds
  double per_call = 0;          // a collective call of the group, whatever it carries
  double per_byte = 0;          // a byte to another process of the slot
  double per_network_byte = 0;  // a byte to another slot
};

// Cost C_s(c) of one sample on each of `width` processes, and of a pass over `batch` of them.
double sample_cost(const Geometry& geometry, const Shape& shape, int width, const CostModel& model,
                   int number_bytes);
double pass_cost(const Geometry& geometry, const Shape& shape, int width, int batch,
                 const CostModel& model, int number_bytes);

// How state is dealt: the ZeRO level, and over how many processes.
struct Dealing {
  int level = 0;
  int processes = 1;
};

// Bytes per process that stay: fp32 weights and gradients, two moments and the moving average where
// there is one, those that the level deals divided by the processes. With them what is there at a
// time: at level 2 two blocks' gradients; at level 3 also two blocks' weights, and the weights
// before and behind the blocks.
double state_bytes(const Geometry& geometry, bool moving_average, const Dealing& dealing = {});

// Estimate of what one process keeps for the backward pass of `batch` samples: 16 rows of the
// model's width and 2 of the hidden layer's for every token and layer, or what activation
// checkpointing leaves of them.
double activation_bytes(const Geometry& geometry, const Shape& shape, int batch, int width,
                        int number_bytes);

}  // namespace pendulum
