// Counts of the Wan-style block: self-attention, cross-attention to the text, feed-forward,
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

double forward_flops(const Geometry& g, const Shape& shape) {
  const auto n = static_cast<double>(tokens(g, shape));
  const double d = g.width, f = g.ffn_dim, l = g.text_length;
  const auto patch = static_cast<double>(patch_size(g)) * g.channels;
  const double self = 8 * n * d * d + 4 * n * n * d;
  const double cross = 4 * n * d * d + 4 * l * d * d + 4 * n * l * d;
  const double forward = 4 * n * d * f;
  const double ends = 2 * n * patch * d * 2;
  const double text_embedder = 2 * l * (g.text_dim * d + d * d);
  const double time_embedder = 2 * (g.freq_dim * d + d * d + 6 * d * d);
  return g.layers * (self + cross + forward) + ends + text_embedder + time_embedder;
}

double training_flops(const Geometry& g, const Shape& shape) { return 3 * forward_flops(g, shape); }

int64_t parameter_count(const Geometry& g) {
  const int64_t d = g.width, f = g.ffn_dim, patch = patch_size(g) * g.channels;
  const int64_t attention = 4 * (d * d + d) + 2 * d;  // with the scales of query's and key's norm
  const int64_t feed_forward = d * f + f + f * d + d;
  const int64_t norm = g.cross_attn_norm ? 2 * d : 0;
  const int64_t block = 2 * attention + feed_forward + norm + 6 * d;
  const int64_t time = g.freq_dim * d + d + d * d + d + 6 * (d * d + d);
  const int64_t words = g.text_dim * d + d + d * d + d;
  const int64_t ends = patch * d + d + d * patch + patch + 2 * d;
  return g.layers * block + time + words + ends;
}

double communication_bytes(const Geometry& g, const Shape& shape, int width, int number_bytes) {
  const int ulysses = std::gcd(width, g.heads), ring = width / ulysses;
  const double numbers = std::ceil(static_cast<double>(tokens(g, shape)) / width) * g.width;
  // A block that is computed again exchanges again; the ring is walked again unless its results
  // were kept.
  const int exchanges = g.activation_checkpointing == "none" ? 2 : 3;
  const int walks = g.activation_checkpointing == "full" ? 3 : 2;
  const double exchanged = exchanges * 4 * numbers * number_bytes * (ulysses - 1) / ulysses;
  // Keys and values on every walk, and backward the sums of their gradients, in fp32.
  const double passed = ring == 1 ? 0
                                  : walks * 2 * numbers * number_bytes * (ring - 1) +
                                        2 * numbers * std::max(4, number_bytes) * ring;
  return g.layers * (exchanged + passed);
}

double sample_cost(const Geometry& g, const Shape& shape, int width, double flops_per_byte,
                   int number_bytes) {
  return training_flops(g, shape) / width +
         flops_per_byte * communication_bytes(g, shape, width, number_bytes);
}

double state_bytes(const Geometry& g, bool moving_average, int updaters) {
  const double dealt = (moving_average ? 3.0 : 2.0) / updaters;
  return 4 * (2 + dealt) * static_cast<double>(parameter_count(g));
}

double activation_bytes(const Geometry& g, const Shape& shape, int batch, int width,
                        int number_bytes) {
  const double rows = static_cast<double>(tokens(g, shape)) * batch / width;
  const double whole = 16.0 * g.width + 2.0 * g.ffn_dim;
  const double words = 4.0 * g.text_length * batch * g.width;
  if (g.activation_checkpointing == "none") return g.layers * (rows * whole + words) * number_bytes;
  // Of every block its input, and the two attentions' outputs; of the block that is computed again
  // everything.
  const double kept = (g.activation_checkpointing == "selective" ? 3.0 : 1.0) * g.width;
  return (g.layers * rows * kept + rows * whole + words) * number_bytes;
}

}  // namespace pendulum
