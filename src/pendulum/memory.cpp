// Bytes by part, from the counts of cost.h.
#include "pendulum/memory.h"

#include <algorithm>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr double kFull = 4;  // bytes of an fp32 number

// Bytes of a number of a frozen matrix, its share of a scale included.
double stored_bytes(const std::string& precision) {
  if (precision == "fp32") return kFull;
  if (precision == "bf16") return 2;
  check(precision == "fp8" || precision == "int8", "fp32, bf16, fp8 or int8: ", precision);
  return 1 + kFull / 64;
}

// Both moments of all trained numbers, or the one that there is.
double moments_bytes(const Geometry& g, const OptimizerMemory& optimizer) {
  const auto trained = static_cast<double>(trained_parameters(g));
  if (optimizer.is_muon) return kFull * (2 * trained - static_cast<double>(g.hidden_matrices));
  if (!optimizer.has_8bit_moments) return 2 * kFull * trained;
  const double whole = std::min(trained, static_cast<double>(g.fp32_moments));
  return 2 * (kFull * whole + (1 + kFull / 256) * (trained - whole));
}

// Frozen matrices that are no parameters but stand beside them, in fewer bytes or by turns.
bool has_stored(const Geometry& g) {
  return g.part && (g.frozen_precision != "fp32" || g.swap_blocks > 0);
}

struct Weights {
  double all = 0;                  // parameters, fp32
  double block = 0, outside = 0;   // of these, of a block and outside of the blocks
  double stored = 0, on_host = 0;  // matrices beside them, on the device and in host memory
};

Weights weights_of(const Geometry& g) {
  const bool is_stored = has_stored(g);
  const TrainedPart part = g.part.value_or(TrainedPart{});
  const int64_t model = parameter_count(g), block = block_parameters(g);
  Weights out;
  out.all =
      kFull * static_cast<double>(model + part.adapters - (is_stored ? part.frozen_matrices : 0));
  out.block = kFull * static_cast<double>(block + part.adapters / g.layers -
                                          (is_stored ? part.frozen_in_block : 0));
  out.outside = kFull * static_cast<double>(model - g.layers * block);
  if (!is_stored) return out;
  const double of_block =
      stored_bytes(g.frozen_precision) * static_cast<double>(part.frozen_matrices) / g.layers;
  const int swapped = std::min(g.swap_blocks, g.layers);
  // Of those that wait, two are on the device at a time.
  out.stored = of_block * (g.layers - swapped + std::min(swapped, 2));
  out.on_host = of_block * swapped;
  return out;
}

// Of frozen matrices that products do not read as they are stored, copies in the products' type.
double copied_bytes(const Geometry& g, int number_bytes) {
  if (!g.part || stored_bytes(g.frozen_precision) == number_bytes) return 0;
  const double d = g.width;
  // Stored ones are restored for every product: of the largest one, query, key and value or a half
  // of the feed-forward layer.
  if (has_stored(g)) return std::max(3 * d * d, d * g.ffn_dim) * number_bytes;
  // Others stay with what is kept for the backward pass.
  const double blocks = g.activation_checkpointing == "none" ? g.layers * reached_share(g) : 1;
  return blocks * static_cast<double>(g.part->frozen_in_block) * number_bytes;
}

// Rows of the model's width that wait in host memory, of a token.
double offloaded_rows(const Geometry& g) {
  if (!g.offloads || g.activation_checkpointing == "none") return 0;
  return std::max(0.0, g.layers * reached_share(g) - 2);
}

}  // namespace

ProcessMemory state_memory(const Geometry& g, const OptimizerMemory& optimizer,
                           const Dealing& dealing) {
  const auto trained = static_cast<double>(trained_parameters(g));
  const auto in_block = static_cast<double>(g.part ? g.part->in_block : block_parameters(g));
  const Weights weights = weights_of(g);
  const auto dealt = [&](int level, double bytes) {
    return dealing.level >= level ? bytes / dealing.processes : bytes;
  };
  // What a level deals, with what is there at a time.
  const auto dealt_beside = [&](int level, double bytes, double in_use) {
    return dealing.level >= level ? std::min(bytes, dealt(level, bytes) + in_use) : bytes;
  };
  ProcessMemory out;
  out.weights =
      weights.stored +
      dealt_beside(3, weights.all, std::min(g.layers, 2) * weights.block + weights.outside);
  out.gradients = dealt_beside(2, kFull * trained, kFull * 2 * in_block);
  out.moments = dealt(1, moments_bytes(g, optimizer));
  const double average = optimizer.has_average ? dealt(1, kFull * trained) : 0;
  (optimizer.average_on_host ? out.host : out.average) += average;
  out.host += weights.on_host;
  return out;
}

double state_bytes(const Geometry& g, const OptimizerMemory& optimizer, const Dealing& dealing) {
  return state_memory(g, optimizer, dealing).state();
}

double activation_bytes(const Geometry& g, const Shape& shape, int batch, int width,
                        int number_bytes) {
  const double rows = static_cast<double>(tokens(g, shape)) * batch / width;
  const double whole = 16.0 * g.width + 2.0 * g.ffn_dim;
  const double states = g.text_length + (g.image_dim > 0 ? g.image_length : 0);
  const double words = 4.0 * states * batch * g.width;
  const double layers = g.layers * reached_share(g);
  // Two gradients more of a hidden layer, through its matrix and its adapter.
  const double of_adapters = g.part && g.part->adapters > 0 ? rows * 2.0 * g.ffn_dim : 0;
  const double at_a_time = of_adapters * number_bytes + copied_bytes(g, number_bytes);
  if (g.activation_checkpointing == "none")
    return layers * (rows * whole + words) * number_bytes + at_a_time;
  // Of every block its input, and the two attentions' outputs; of the block that is computed again
  // everything.
  const double results = (g.activation_checkpointing == "selective" ? 2.0 : 0.0) * g.width;
  // Of inputs that are offloaded the two on their way.
  const double inputs = (layers - offloaded_rows(g)) * g.width;
  return (rows * (layers * results + inputs + whole) + words) * number_bytes + at_a_time;
}

ProcessMemory pass_memory(const Geometry& g, const OptimizerMemory& optimizer,
                          const Dealing& dealing, const Shape& shape, int batch, int width,
                          int number_bytes) {
  ProcessMemory out = state_memory(g, optimizer, dealing);
  out.activations = activation_bytes(g, shape, batch, width, number_bytes);
  const double rows = static_cast<double>(tokens(g, shape)) * batch / width;
  out.host += rows * offloaded_rows(g) * g.width * number_bytes;
  return out;
}

}  // namespace pendulum
