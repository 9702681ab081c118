// Counts of the Wan-style block: self-attention, cross-attention to text and image, feed-forward,
// modulation by time.
#include "pendulum/cost.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace pendulum {
namespace {

int64_t patch_size(const Geometry& g) { return int64_t{g.patch[0]} * g.patch[1] * g.patch[2]; }

int64_t side_tokens(const Shape& shape, const char* side, int pixels, int spatial, int patch) {
  const int unit = spatial * patch;
  if (pixels < unit || pixels % unit != 0) {
    throw ConfigError(text("shape ", shape.name(), ": ", side, " ", pixels,
                           " is not a multiple of ", unit, " (codec ", spatial, " x patch ", patch,
                           ")"));
  }
  return pixels / unit;
}

// FLOPs of a pass by how they are shared and computed.
struct Flops {
  double tokens = 0;     // products of tokens with weights; the patches in and out among them
  double words = 0;      // keys and values of text and image, in every layer
  double embedders = 0;  // of text, image and time, once
  double attention = 0;  // self- and cross-attention

  double sum() const { return tokens + words + embedders + attention; }
};

// Of the whole model, forward.
Products whole_products(const Geometry& g) {
  const double d = g.width, f = g.ffn_dim, l = g.text_length, i = g.image_dim, s = g.image_length;
  const double patches = static_cast<double>(patch_size(g)) * (g.channels + g.latent_channels());
  Products out;
  // Four products of self-attention, two of cross-attention, two of the feed-forward layer.
  out.per_token = g.layers * (8 * d * d + 4 * d * d + 4 * d * f) + 2 * patches * d;
  out.words = g.layers * 4 * (l + (i > 0 ? s : 0)) * d * d;
  out.embedders = 2 * l * (g.text_dim * d + d * d) + 2 * s * (i * i + i * d) +
                  2 * (g.freq_dim * d + d * d + 6 * d * d);
  return out;
}

Flops flops_of(const Geometry& g, const Shape& shape, const Products& products, double attentions) {
  const auto n = static_cast<double>(tokens(g, shape));
  const double states = g.text_length + (g.image_dim > 0 ? g.image_length : 0);
  return {n * products.per_token, products.words, products.embedders,
          attentions * g.layers * (4 * n * n * g.width + 4 * n * states * g.width)};
}

Flops forward(const Geometry& g, const Shape& shape) {
  return flops_of(g, shape, g.part ? g.part->forward : whole_products(g), 1);
}

Flops backward(const Geometry& g, const Shape& shape) {
  if (g.part) return flops_of(g, shape, g.part->backward, 2 * reached_share(g));
  Flops out = forward(g, shape);
  for (double* part : {&out.tokens, &out.words, &out.embedders, &out.attention}) *part *= 2;
  return out;
}

}  // namespace

int64_t tokens(const Geometry& g, const Shape& shape) {
  const int64_t rows = side_tokens(shape, "height", shape.height, g.spatial, g.patch[1]);
  const int64_t columns = side_tokens(shape, "width", shape.width, g.spatial, g.patch[2]);
  if (shape.frames < 1 || fitting_frames(g, shape.frames) != shape.frames) {
    throw ConfigError(text("shape ", shape.name(), ": ", shape.frames,
                           " frames do not divide into 1 + ", g.temporal,
                           " k frames with 1 + k a multiple of patch ", g.patch[0]));
  }
  return (1 + (shape.frames - 1) / g.temporal) / g.patch[0] * rows * columns;
}

int fitting_frames(const Geometry& g, int frames) {
  for (int f = frames; f >= 1; --f) {
    if ((f - 1) % g.temporal == 0 && (1 + (f - 1) / g.temporal) % g.patch[0] == 0) return f;
  }
  return 0;
}

double forward_flops(const Geometry& g, const Shape& shape) { return forward(g, shape).sum(); }

double training_flops(const Geometry& g, const Shape& shape) {
  return forward(g, shape).sum() + backward(g, shape).sum();
}

int64_t block_parameters(const Geometry& g) {
  const int64_t d = g.width, f = g.ffn_dim;
  const int64_t attention = 4 * (d * d + d) + 2 * d;  // with the scales of query's and key's norm
  const int64_t image = g.image_dim > 0 ? 2 * (d * d + d) + d : 0;
  const int64_t feed_forward = d * f + f + f * d + d;
  const int64_t norm = g.cross_attn_norm ? 2 * d : 0;
  return 2 * attention + image + feed_forward + norm + 6 * d;
}

int64_t parameter_count(const Geometry& g) {
  const int64_t d = g.width, i = g.image_dim, patch = patch_size(g);
  const int64_t in = patch * g.channels, out = patch * g.latent_channels();
  const int64_t time = g.freq_dim * d + d + d * d + d + 6 * (d * d + d);
  const int64_t words = g.text_dim * d + d + d * d + d;
  const int64_t image = i > 0 ? g.image_positions * i + 2 * i + i * i + i + i * d + d + 2 * d : 0;
  const int64_t ends = in * d + d + d * out + out + 2 * d;
  return g.layers * block_parameters(g) + time + words + image + ends;
}

int64_t trained_parameters(const Geometry& g) {
  return g.part ? g.part->parameters : parameter_count(g);
}

double reached_share(const Geometry& g) {
  return g.part ? static_cast<double>(g.layers - g.part->first_block) / g.layers : 1.0;
}

Traffic attention_traffic(double numbers, int number_bytes, int ulysses, int ring, int exchanges,
                          int walks) {
  Traffic out;
  if (ulysses > 1) {
    // Query, key and value one way, the output back.
    out.exchanged = exchanges * 4 * numbers * number_bytes * (ulysses - 1) / ulysses;
    out.calls += 2 * exchanges;
  }
  if (ring > 1) {
    // Keys and values on every walk, and backward the sums of their gradients, in fp32 at least.
    out.passed = walks * 2 * numbers * number_bytes * (ring - 1) +
                 2 * numbers * std::max(4, number_bytes) * ring;
    out.calls += walks * (ring - 1) + ring;
  }
  return out;
}

Traffic sample_traffic(const Geometry& g, const Shape& shape, int width, int number_bytes) {
  const int ulysses = std::gcd(width, g.heads);
  const double numbers = std::ceil(static_cast<double>(tokens(g, shape)) / width) * g.width;
  Traffic out = attention_traffic(numbers, number_bytes, ulysses, width / ulysses,
                                  g.activation_checkpointing == "none" ? 2 : 3,
                                  g.activation_checkpointing == "full" ? 3 : 2);
  for (double* part : {&out.exchanged, &out.passed, &out.calls}) *part *= g.layers;
  return out;
}

double update_bytes(const Geometry& g, int processes) {
  return 2.0 * 4.0 * static_cast<double>(trained_parameters(g)) * (processes - 1) / processes;
}

Work sample_work(const Geometry& g, const Shape& shape, int width) {
  const Flops f = forward(g, shape), b = backward(g, shape);
  // What is computed again, of the blocks that have a backward pass.
  const double reached = reached_share(g);
  const double blocks = g.activation_checkpointing == "none" ? 0 : reached;
  const double attention = g.activation_checkpointing == "full" ? reached : 0;
  const double share = std::ceil(static_cast<double>(tokens(g, shape)) / width) /
                       static_cast<double>(tokens(g, shape));
  return {((1 + blocks) * f.tokens + b.tokens) * share + (1 + blocks) * f.words + b.words +
              f.embedders + b.embedders,
          ((1 + attention) * f.attention + b.attention) * share};
}

double sample_cost(const Geometry& g, const Shape& shape, int width, const CostModel& model,
                   int number_bytes) {
  const Work work = sample_work(g, shape, width);
  return work.matrix + model.attention * work.attention +
         model.per_byte * sample_traffic(g, shape, width, number_bytes).bytes();
}

double pass_cost(const Geometry& g, const Shape& shape, int width, int batch,
                 const CostModel& model, int number_bytes) {
  const double calls = sample_traffic(g, shape, width, number_bytes).calls;
  return model.per_pass + model.per_call * calls +
         batch * sample_cost(g, shape, width, model, number_bytes);
}

}  // namespace pendulum
