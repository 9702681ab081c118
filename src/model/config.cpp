// Presets and their checks.
#include "model/config.h"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "model/experts.h"
#include "model/first_frame_name.h"
#include "model/pretrained.h"

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

// Channels and image states must be those that the configuration gives.
void check_first_frame(const ModelConfig& model, const ModelInputs& inputs, const WanConfig& config,
                       const std::string& where) {
  const int beside = config.condition_channels();
  const int expected = inputs.temporal + inputs.latent_channels;
  const std::optional<FirstFrame> asked = first_frame_named(model.image_to_video);
  if (beside != 0 && asked && asked != FirstFrame::channels) {
    throw ConfigError(text("model.image_to_video: found ", model.image_to_video, ", but ", where,
                           " takes ", beside, " channels beside the latent: channels"));
  }
  if (beside == 0 && asked == FirstFrame::channels) {
    throw ConfigError(
        text("model.image_to_video: found channels, but ", where, " takes none beside the latent"));
  }
  if (beside != 0 && beside != expected) {
    throw ConfigError(text("model.import: ", where, " takes ", beside,
                           " channels beside the latent; a mask and the latent of the first frame "
                           "are ",
                           expected));
  }
  if (config.image_positions > 0) {
    throw ConfigError(text("model.import: ", where,
                           " is given first and last frames, which cannot be trained yet"));
  }
  if (config.image_dim == 0 && inputs.image_dim != 0)
    throw ConfigError(text("image.kind: ", where, " attends to no image; leave it out"));
  if (config.image_dim != 0 && inputs.image_dim == 0) {
    throw ConfigError(text("image.kind: ", where, " attends to image states of ", config.image_dim,
                           " numbers: set image to {kind: clip, weights: ...}"));
  }
  if (config.image_dim != inputs.image_dim) {
    throw ConfigError(text("image.weights: ", where, " attends to image states of ",
                           config.image_dim, " numbers, the image encoder gives ",
                           inputs.image_dim));
  }
}

// A published model's dimensions are what they are; what the YAML says must agree.
WanConfig imported_config(const ModelConfig& model, const ModelInputs& inputs) {
  if (!std::filesystem::exists(model.import))
    throw ConfigError(text("model.import: ", model.import, ": there is no such file or folder"));
  const WanConfig config = PretrainedTransformer::open(transformer_place(model)).config();
  const auto agree = [&](const char* key, int wanted, int found) {
    if (wanted != 0 && wanted != found) {
      throw ConfigError(text("model.", key, ": found ", wanted, ", but the model in ", model.import,
                             " has ", found, "; leave the key out"));
    }
  };
  agree("layers", model.layers, config.layers);
  agree("heads", model.heads, config.heads);
  agree("head_dim", model.head_dim, config.head_dim);
  agree("ffn_dim", model.ffn_dim, config.ffn_dim);
  agree("freq_dim", model.freq_dim, config.freq_dim);
  for (size_t i = 0; i < model.patch.size() && i < 3; ++i)
    agree("patch", model.patch[i], config.patch[i]);
  const std::string where = text("the model in ", model.import);
  if (config.out_channels != inputs.latent_channels) {
    throw ConfigError(text("model.import: ", where, " takes ", config.in_channels,
                           " latent channels and gives ", config.out_channels, ", the codec has ",
                           inputs.latent_channels));
  }
  if (config.text_dim != inputs.text_dim) {
    throw ConfigError(text("model.import: ", where, " takes text states of ", config.text_dim,
                           " numbers, the text encoder gives ", inputs.text_dim));
  }
  check_first_frame(model, inputs, config, where);
  return config;
}

}  // namespace

FirstFrame first_frame_of(const ModelConfig& model, const WanConfig& config) {
  if (first_frame_named(model.image_to_video) == FirstFrame::latent) return FirstFrame::latent;
  return config.condition_channels() > 0 ? FirstFrame::channels : FirstFrame::none;
}

WanConfig wan_config(const ModelConfig& model, const ModelInputs& inputs) {
  if (!model.import.empty()) return imported_config(model, inputs);
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
  config.in_channels = config.out_channels = inputs.latent_channels;
  if (first_frame_named(model.image_to_video) == FirstFrame::channels) {
    config.in_channels += inputs.temporal + inputs.latent_channels;
    config.image_dim = inputs.image_dim;
  } else if (inputs.image_dim > 0) {
    throw ConfigError("image.kind: image states go with model.image_to_video: channels");
  }
  config.text_dim = inputs.text_dim;
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
