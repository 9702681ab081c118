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

int64_t block_parameters(const Geometry& g) {
  const int64_t d = g.width, f = g.ffn_dim;
  const int64_t attention = 4 * (d * d + d) + 2 * d;  // with the scales of query's and key's norm
  const int64_t feed_forward = d * f + f + f * d + d;
  const int64_t norm = g.cross_attn_norm ? 2 * d : 0;
  return 2 * attention + feed_forward + norm + 6 * d;
}

// FLOPs of the forward pass by how they are shared and computed.
struct Forward {
  double tokens = 0;     // products of tokens with weights; the patches in and out among them
  double words = 0;      // keys and values of the text, in every layer
  double embedders = 0;  // of text and time, once
  double attention = 0;  // self- and cross-attention
};

Forward forward(const Geometry& g, const Shape& shape) {
  const auto n = static_cast<double>(tokens(g, shape));
  const double d = g.width, f = g.ffn_dim, l = g.text_length;
  const auto patch = static_cast<double>(patch_size(g)) * g.channels;
  Forward out;
  // Four products of self-attention, two of cross-attention, two of the feed-forward layer.
  out.tokens = g.layers * (8 * n * d * d + 4 * n * d * d + 4 * n * d * f) + 2 * n * patch * d * 2;
  out.words = g.layers * 4 * l * d * d;
  out.embedders = 2 * l * (g.text_dim * d + d * d) + 2 * (g.freq_dim * d + d * d + 6 * d * d);
  out.attention = g.layers * (4 * n * n * d + 4 * n * l * d);
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

double forward_flops(const Geometry& g, const Shape& shape) {
  const Forward f = forward(g, shape);
  return f.tokens + f.words + f.embedders + f.attention;
}

double training_flops(const Geometry& g, const Shape& shape) { return 3 * forward_flops(g, shape); }

int64_t parameter_count(const Geometry& g) {
  const int64_t d = g.width, patch = patch_size(g) * g.channels;
  const int64_t time = g.freq_dim * d + d + d * d + d + 6 * (d * d + d);
  const int64_t words = g.text_dim * d + d + d * d + d;
  const int64_t ends = patch * d + d + d * patch + patch + 2 * d;
  return g.layers * block_parameters(g) + time + words + ends;
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
  return 2.0 * 4.0 * static_cast<double>(parameter_count(g)) * (processes - 1) / processes;
}

Work sample_work(const Geometry& g, const Shape& shape, int width) {
  const Forward f = forward(g, shape);
  // Forward, twice that backward, and what is computed again.
  const int blocks = g.activation_checkpointing == "none" ? 3 : 4;
  const int attention = g.activation_checkpointing == "full" ? 4 : 3;
  const double share = std::ceil(static_cast<double>(tokens(g, shape)) / width) /
                       static_cast<double>(tokens(g, shape));
  return {blocks * (f.tokens * share + f.words) + 3 * f.embedders, attention * f.attention * share};
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

double state_bytes(const Geometry& g, bool moving_average, const Dealing& dealing) {
  const auto all = static_cast<double>(parameter_count(g));
  const auto block = static_cast<double>(block_parameters(g));
  const double part = all / dealing.processes;
  // Numbers of weights, gradients, moments and average.
  double numbers = (moving_average ? 3 : 2) * (dealing.level >= 1 ? part : all);
  numbers += dealing.level >= 2 ? std::min(all, part + 2 * block) : all;
  const double in_use = std::min(g.layers, 2) * block + all - g.layers * block;
  numbers += dealing.level >= 3 ? std::min(all, part + in_use) : all;
  return 4 * numbers;
}

double activation_bytes(const Geometry& g, const Shape& shape, int batch, int width,
                        int number_bytes) {
  const double rows = static_cast<double>(tokens(g, shape)) * batch / width;
  const double whole = 16.0 * g.width + 2.0 * g.ffn_dim;
  const double words = 4.0 * g.text_length * batch * g.width;
  if (g.activation_checkpointing == "none") return g.layers * (rows * whole + words) * number_bytes;
  // Of every block its input, and the two attentions' outputs; of the block that is computed again
  // everything.
  const double results = (g.activation_checkpointing == "selective" ? 2.0 : 0.0) * g.width;
  // Of inputs that are offloaded the two on their way.
  const double inputs = (g.offloads ? std::min(g.layers, 2) : g.layers) * g.width;
  return (rows * (g.layers * results + inputs + whole) + words) * number_bytes;
}

}  // namespace pendulum
