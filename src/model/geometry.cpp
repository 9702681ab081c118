// Sums over the list of parameters.
#include "model/geometry.h"

#include <algorithm>
#include <regex>
#include <string>
#include <vector>

#include "core/error.h"
#include "model/hidden_matrix.h"
#include "model/lora.h"
#include "model/parameters.h"
#include "ops/adamw.h"

namespace pendulum {
namespace {

constexpr int kImageStates = 257;  // of ViT-H/14: 16 x 16 patches and the class token

int64_t numbers(const ParameterSpec& spec) {
  int64_t product = 1;
  for (const int64_t size : spec.shape) product *= size;
  return product;
}

// Whether a product reads it: tables and positions are added.
bool is_matrix(const ParameterSpec& spec) {
  return spec.shape.size() >= 2 && spec.name.ends_with(".weight");
}

// What a product is computed of, and so how many rows it has.
enum class Rows { tokens, text, image, text_embedder, image_embedder, time };

Rows rows_of(const std::string& name) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has(".text_embedder.")) return Rows::text_embedder;
  if (has(".image_embedder.")) return Rows::image_embedder;
  if (has("condition_embedder.")) return Rows::time;
  if (has(".attn2.to_k") || has(".attn2.to_v")) return Rows::text;
  if (has(".attn2.add_")) return Rows::image;
  return Rows::tokens;
}

// Counts what trains, walking the parameters twice: first what trains where, then the products.
class PartCounter {
 public:
  PartCounter(const Config& config, const WanConfig& wan, const Geometry& geometry)
      : geometry_(geometry),
        lora_(config.lora),
        pattern_(config.model.trainable),
        specs_(parameter_specs(wan)),
        adapters_(adapter_specs(wan, lora_)),
        trained_by_block_(wan.layers),
        frozen_by_block_(wan.layers) {
    part_.first_block = wan.layers;
  }

  bool is_whole() const {
    return std::all_of(specs_.begin(), specs_.end(),
                       [&](const auto& spec) { return trains(spec); });
  }
  // Trained numbers of the tensors that `counts` takes.
  template <class Counts>
  int64_t trained_numbers(const Counts& counts) const {
    int64_t sum = 0;
    for (const ParameterSpec& spec : specs_) {
      if (trains(spec) && counts(spec)) sum += numbers(spec);
    }
    for (const ParameterSpec& spec : adapters_) {
      if (counts(spec)) sum += numbers(spec);
    }
    return sum;
  }
  TrainedPart count() {
    for (const ParameterSpec& spec : specs_) count_parameter(spec, trains(spec));
    for (const ParameterSpec& spec : adapters_) {
      part_.adapters += numbers(spec);
      count_parameter(spec, true);
    }
    if (part_.parameters == 0) {
      throw ConfigError(
          "model.trainable: the pattern matches no parameter, so that nothing would train");
    }
    part_.in_block = *std::max_element(trained_by_block_.begin(), trained_by_block_.end());
    part_.frozen_in_block = *std::max_element(frozen_by_block_.begin(), frozen_by_block_.end());
    for (const ParameterSpec& spec : specs_) {
      if (is_matrix(spec)) count_product(spec, trains(spec));
    }
    // Of an adapter's two matrices the first tells its rank and inputs, the second its outputs.
    for (size_t i = 0; i + 1 < adapters_.size(); i += 2)
      count_adapter(adapters_[i], adapters_[i + 1].shape[0]);
    return part_;
  }

 private:
  bool trains(const ParameterSpec& spec) const {
    return lora_.rank == 0 && std::regex_match(spec.name, pattern_);
  }

  void count_parameter(const ParameterSpec& spec, bool is_trained) {
    const int block = block_of(spec.name);
    if (!is_trained) {
      if (!is_block_matrix(spec)) return;
      part_.frozen_matrices += numbers(spec);
      frozen_by_block_[block] += numbers(spec);
      return;
    }
    part_.parameters += numbers(spec);
    if (block >= 0) trained_by_block_[block] += numbers(spec);
    trains_text_ |= rows_of(spec.name) == Rows::text_embedder;
    trains_image_ |= rows_of(spec.name) == Rows::image_embedder;
    trains_time_ |= rows_of(spec.name) == Rows::time;
    // As VideoTransformer::first_trained_block has it.
    if (spec.name == "scale_shift_table" || spec.name.starts_with("proj_out.")) return;
    part_.first_block = std::min(part_.first_block, std::max(0, block));
  }

  // Whether the product's input wants a gradient.
  bool gradient_passes(const std::string& name) const {
    const bool is_first =
        name.starts_with("patch_embedding.") || name.ends_with(".linear_1.weight");
    if (is_first) return false;
    switch (rows_of(name)) {
      case Rows::text:
      case Rows::text_embedder:
        return trains_text_;
      case Rows::image:
      case Rows::image_embedder:
        return trains_image_;
      case Rows::time:
        return trains_time_;
      case Rows::tokens:
        break;
    }
    return block_of(name) < 0 ? part_.first_block < geometry_.layers  // proj_out
                              : block_of(name) >= part_.first_block;
  }

  // FLOPs of one row, forward and backward.
  void add(const std::string& name, double forward, double backward) {
    const auto to = [&](double Products::*kind, double rows) {
      part_.forward.*kind += rows * forward;
      part_.backward.*kind += rows * backward;
    };
    switch (rows_of(name)) {
      case Rows::tokens:
        return to(&Products::per_token, 1);
      case Rows::text:
        return to(&Products::words, geometry_.text_length);
      case Rows::image:
        return to(&Products::words, geometry_.image_length);
      case Rows::text_embedder:
        return to(&Products::embedders, geometry_.text_length);
      case Rows::image_embedder:
        return to(&Products::embedders, geometry_.image_length);
      case Rows::time:
        return to(&Products::embedders, 1);
    }
  }

  void count_product(const ParameterSpec& spec, bool is_trained) {
    const double forward = 2.0 * static_cast<double>(numbers(spec));
    add(spec.name, forward, (int{is_trained} + int{gradient_passes(spec.name)}) * forward);
  }

  // Two products; both weights have gradients, and what is between them.
  void count_adapter(const ParameterSpec& down, int64_t outputs) {
    const double rank = static_cast<double>(down.shape[0]);
    const double first = 2 * rank * static_cast<double>(down.shape[1]);
    const double second = 2 * rank * static_cast<double>(outputs);
    add(down.name, first + second, (gradient_passes(down.name) ? 2 : 1) * first + 2 * second);
  }

  const Geometry& geometry_;
  LoraConfig lora_;
  std::regex pattern_;
  std::vector<ParameterSpec> specs_, adapters_;
  std::vector<int64_t> trained_by_block_, frozen_by_block_;
  bool trains_text_ = false, trains_image_ = false, trains_time_ = false;
  TrainedPart part_;
};

}  // namespace

Geometry geometry(const Config& config, const LatentSizes& latents, const WanConfig& wan) {
  Geometry out{.layers = wan.layers,
               .width = wan.heads * wan.head_dim,
               .ffn_dim = wan.ffn_dim,
               .freq_dim = wan.freq_dim,
               .text_length = config.text.length,
               .text_dim = wan.text_dim,
               .spatial = latents.spatial,
               .temporal = latents.temporal,
               .patch = wan.patch,
               .channels = wan.in_channels,
               .cross_attn_norm = wan.cross_attn_norm,
               .heads = wan.heads,
               .activation_checkpointing = config.model.activation_checkpointing,
               .offloads = config.model.offload != "none",
               .out_channels = wan.out_channels,
               .image_dim = wan.image_dim,
               .image_length = wan.image_dim > 0 ? kImageStates : 0,
               .image_positions = wan.image_positions,
               .frozen_precision = config.model.frozen_precision,
               .swap_blocks = config.model.swap_blocks};
  if (wan.image_positions > 0) out.image_length = wan.image_positions;
  PartCounter counter(config, wan, out);
  out.fp32_moments = counter.trained_numbers(
      [](const ParameterSpec& spec) { return !has_8bit_moments(spec.shape); });
  out.hidden_matrices = counter.trained_numbers(
      [](const ParameterSpec& spec) { return is_hidden_matrix(spec.name, spec.shape); });
  if (!counter.is_whole()) out.part = counter.count();
  return out;
}

}  // namespace pendulum
