// What a sample costs: tokens, FLOPs, parameters and communication of the transformer, from its
// geometry alone.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "core/shape.h"

namespace pendulum {

// FLOPs of products with weights, a multiply-add counted as 2.
struct Products {
  double per_token = 0;
  double words = 0;      // of a sample: keys and values of its text and image, in every layer
  double embedders = 0;  // of a sample: its text, image and time
};

// Of a model that does not train as a whole, or has adapters: what its cost depends on
// (model/geometry.h counts it).
struct TrainedPart {
  int64_t parameters = 0;       // that train, those of adapters among them
  int64_t adapters = 0;         // of these, beside the model's own
  int64_t in_block = 0;         // that train in the block where most do
  int64_t frozen_in_block = 0;  // numbers of a block's frozen matrices, of the block with most
  int64_t frozen_matrices = 0;  // of all blocks
  int first_block = 0;          // the first one that a gradient reaches; the number of blocks: none
  // With the adapters' own products. Backward a product has its forward's FLOPs once for the
  // gradient of its weight where that trains, and once for that of its input where something before
  // it trains; a block counts whole, so what in the first trained block stands before its trained
  // parameters counts too.
  Products forward, backward;
};

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
  int channels = 0;  // that the model takes: of the latents, and what is given beside them
  bool cross_attn_norm = true;
  int heads = 1;
  std::string activation_checkpointing = "none";  // none, selective, full
  bool offloads = false;                          // blocks' inputs wait in host memory
  int out_channels = 0;                           // of the latents alone; 0: as many as channels
  int image_dim = 0;        // width of image states that blocks attend to beside the text; 0: none
  int image_length = 0;     // of these states
  int image_positions = 0;  // of them with a learnt position
  std::optional<TrainedPart> part{};      // nothing: all of it trains
  std::string frozen_precision = "fp32";  // of blocks' frozen matrices: fp32, bf16, fp8, int8
  int swap_blocks = 0;                    // blocks whose frozen matrices wait in host memory
  // Trained numbers of tensors whose moments stay fp32 where the others have 8 bits.
  int64_t fp32_moments = 0;
  // Trained numbers of matrices between hidden states, of which Muon keeps one moment.
  int64_t hidden_matrices = 0;

  int latent_channels() const { return out_channels > 0 ? out_channels : channels; }
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

// Forward and backward; nothing is recomputed. Where all trains 3 times the forward pass, as is
// usual. Else a frozen matrix has no gradient of its own: its product counts twice from the first
// trained block on and once before; attention counts three times from there on and once before; an
// adapter of rank R counts 6 R (inputs + outputs) a row.
double training_flops(const Geometry& geometry, const Shape& shape);

// Numbers of the model, equal to the published one's; without adapters.
int64_t parameter_count(const Geometry& geometry);
// Of one of its blocks.
int64_t block_parameters(const Geometry& geometry);
// Those that train, adapters' among them.
int64_t trained_parameters(const Geometry& geometry);
// Share of the blocks that a gradient reaches.
double reached_share(const Geometry& geometry);

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
// divides the heads. The gathering of the output, once for all layers, is left out; layers that no
// gradient reaches count as the others.
Traffic sample_traffic(const Geometry& geometry, const Shape& shape, int width, int number_bytes);

// Bytes that each process sends per optimiser step, so that all hold the sum of the gradients
// of what trains (fp32, a ring) or, with ZeRO, their part of it and then the updated weights.
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

}  // namespace pendulum
