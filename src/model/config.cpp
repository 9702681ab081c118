// Presets and their checks.
#include "model/config.h"

#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace pendulum {
namespace {

// Dimensions from the published config.json files of Wan-AI's diffusers checkpoints. freq_dim is
// 256 in all of them. Wan 2.2's 5B was trained with one time per token (model.per_token_time).
const std::vector<std::pair<std::string, WanConfig>>& presets() {
  static const std::vector<std::pair<std::string, WanConfig>> table{
      {"wan-tiny", {.layers = 4, .heads = 4, .head_dim = 32, .ffn_dim = 512, .freq_dim = 256}},
      {"wan-2.1-1.3b",
       {.layers = 30, .heads = 12, .head_dim = 128, .ffn_dim = 8960, .freq_dim = 256}},
      {"wan-2.1-14b",
       {.layers = 40, .heads = 40, .head_dim = 128, .ffn_dim = 13824, .freq_dim = 256}},
      {"wan-2.2-5b",
       {.layers = 30, .heads = 24, .head_dim = 128, .ffn_dim = 14336, .freq_dim = 256}},
  };
  return table;
}

WanConfig preset(const std::string& name) {
  std::string known;
  for (const auto& [preset_name, config] : presets()) {
    if (preset_name == name) return config;
    known += (known.empty() ? "" : ", ") + preset_name;
  }
  throw ConfigError(text("model.preset: \"", name, "\" is not known; there are ", known));
}

void require(bool holds, const char* key, int found, const char* expected) {
  if (!holds) throw ConfigError(text("model.", key, ": found ", found, ", expected ", expected));
}

}  // namespace

WanConfig wan_config(const ModelConfig& model, int latent_channels, int text_dim) {
  WanConfig config = preset(model.preset);
  const auto overlay = [](int& field, int value) {
    if (value != 0) field = value;
  };
  overlay(config.layers, model.layers);
  overlay(config.heads, model.heads);
  overlay(config.head_dim, model.head_dim);
  overlay(config.ffn_dim, model.ffn_dim);
  overlay(config.freq_dim, model.freq_dim);
  if (!model.patch.empty()) {
    require(model.patch.size() == 3, "patch", static_cast<int>(model.patch.size()),
            "three numbers: time, height, width");
    for (size_t i = 0; i < 3; ++i) {
      require(model.patch[i] > 0, "patch", model.patch[i], "sizes of at least 1");
      config.patch[i] = model.patch[i];
    }
  }
  config.cross_attn_norm = model.cross_attn_norm;
  config.eps = model.eps;
  config.in_channels = config.out_channels = latent_channels;
  config.text_dim = text_dim;
  require(config.layers > 0, "layers", config.layers, "at least 1");
  require(config.heads > 0, "heads", config.heads, "at least 1");
  require(config.ffn_dim > 0, "ffn_dim", config.ffn_dim, "at least 1");
  // Below 6 the rotation has no pairs left for height and width.
  require(config.head_dim >= 6 && config.head_dim % 2 == 0, "head_dim", config.head_dim,
          "an even number of at least 6");
  require(config.freq_dim > 0 && config.freq_dim % 2 == 0, "freq_dim", config.freq_dim,
          "an even number");
  return config;
}

}  // namespace pendulum
