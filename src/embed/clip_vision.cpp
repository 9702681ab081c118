// Names and order of operations are those of transformers' modeling_clip.py.
// T: tokens, H: heads, D: width of a head.
#include "embed/clip_vision.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_fields.h"
#include "core/json_file.h"
#include "embed/stored_linear.h"
#include "safetensors/expected_tensors.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kPatches = "embeddings.patch_embedding.weight";
constexpr const char* kPositions = "embeddings.position_embedding.weight";

std::string layer_name(int64_t layer) { return text("encoder.layers.", layer, "."); }

ClipVisionConfig read_config(const json& config, const std::string& path) {
  const JsonFields fields(config, path);
  if (fields.has("model_type")) fields.one_of("model_type", {"clip_vision_model"});
  const auto size = [&](const char* key) { return fields.whole(key, 1, 1 << 20); };
  ClipVisionConfig out{.width = size("hidden_size"),
                       .inner = size("intermediate_size"),
                       .layers = size("num_hidden_layers"),
                       .heads = size("num_attention_heads"),
                       .image = size("image_size"),
                       .patch = size("patch_size")};
  // What transformers takes where the key is missing.
  out.activation =
      fields.has("hidden_act") ? fields.one_of("hidden_act", {"gelu", "quick_gelu"}) : "quick_gelu";
  if (fields.has("layer_norm_eps")) out.eps = fields.number("layer_norm_eps");
  if (out.width % out.heads != 0)
    fields.fail("num_attention_heads", text("a divisor of hidden_size, ", out.width));
  if (out.patch > out.image) fields.fail("patch_size", text("at most image_size, ", out.image));
  return out;
}

// Without the prefix.
std::vector<ExpectedTensor> expected_tensors(const ClipVisionConfig& c) {
  std::vector<ExpectedTensor> out{{"embeddings.class_embedding", {c.width}},
                                  {kPatches, {c.width, 3, c.patch, c.patch}},
                                  {kPositions, {c.tokens(), c.width}}};
  const auto affine = [&](const std::string& name, std::vector<int64_t> shape) {
    out.push_back({name + ".weight", shape});
    out.push_back({name + ".bias", {shape[0]}});
  };
  affine("pre_layrnorm", {c.width});  // so spelt in all published files
  affine("post_layernorm", {c.width});
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = layer_name(i);
    for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"})
      affine(layer + "self_attn." + part, {c.width, c.width});
    affine(layer + "layer_norm1", {c.width});
    affine(layer + "layer_norm2", {c.width});
    affine(layer + "mlp.fc1", {c.inner, c.width});
    affine(layer + "mlp.fc2", {c.width, c.inner});
  }
  return out;
}

ShardedSafetensors open_tensors(const std::string& path) {
  if (!fs::exists(path)) throw DataError(text(path, ": there is no such file or folder"));
  return ShardedSafetensors::open(path);
}

}  // namespace

ClipVision::ClipVision(const std::string& path) : tensors_(open_tensors(path)) {
  prefix_ = tensors_.contains(text("vision_model.", kPatches)) ? "vision_model." : "";
  if (!tensors_.contains(prefix_ + kPatches)) {
    throw DataError(text(tensors_.path(),
                         ": the tensors are not named as a CLIP vision model's: there is no ",
                         kPatches));
  }
  const fs::path config = fs::path(path) / "config.json";
  if (fs::is_directory(path) && fs::exists(config)) {
    config_path_ = config.string();
    config_ = read_config(read_json(config_path_), config_path_);
  } else {
    config_ = config_from_shapes();
  }
  take_tensors();
}

const std::vector<int64_t>& ClipVision::shape_of(const std::string& name, size_t dimensions) const {
  return tensors_.shape(prefix_ + name, dimensions);
}

ClipVisionConfig ClipVision::config_from_shapes() const {
  const auto& patches = shape_of(kPatches, 4);
  const int64_t positions = shape_of(kPositions, 2)[0];
  ClipVisionConfig config{.width = patches[0],
                          .inner = shape_of(layer_name(0) + "mlp.fc1.weight", 2)[0],
                          .patch = patches[3]};
  const auto edge =
      std::lround(std::sqrt(static_cast<double>(std::max<int64_t>(positions - 1, 0))));
  config.image = edge * config.patch;
  while (tensors_.contains(prefix_ + layer_name(config.layers) + "mlp.fc1.weight")) ++config.layers;
  if (edge < 1 || config.patch < 1 || config.width < 1 || config.width % config.heads != 0) {
    throw DataError(text(tensors_.path(), ": ", positions, " positions and ", config.width,
                         " channels are not those of a model with ", config.heads,
                         " heads; a folder with config.json says how many there are"));
  }
  return config;
}

void ClipVision::take_tensors() {
  std::vector<ExpectedTensor> expected = expected_tensors(config_);
  for (ExpectedTensor& tensor : expected) tensor.name = prefix_ + tensor.name;
  // Besides, the projection into the space shared with text, and a buffer of old versions.
  require_tensors(tensors_, expected, kPlainFloats, "a CLIP vision model",
                  {"visual_projection.weight", prefix_ + "embeddings.position_ids"});
  for (const ExpectedTensor& tensor : expected)
    weights_[tensor.name.substr(prefix_.size())] = tensors_.map(tensor.name);
}

std::vector<std::string> ClipVision::paths() const {
  std::vector<std::string> paths = tensors_.paths();
  if (!config_path_.empty()) paths.insert(paths.begin(), config_path_);
  return paths;
}

at::Tensor ClipVision::linear(const at::Tensor& x, const std::string& name) const {
  return stored_linear(x, weight(name + ".weight")) + weight(name + ".bias").to(at::kFloat);
}

at::Tensor ClipVision::normalize(const at::Tensor& x, const std::string& name) const {
  return at::layer_norm(x, {config_.width}, weight(name + ".weight").to(at::kFloat),
                        weight(name + ".bias").to(at::kFloat), config_.eps);
}

at::Tensor ClipVision::attention(const at::Tensor& x, const std::string& name) const {
  const int64_t tokens = x.size(0);
  const auto by_head = [&](const char* part) {  // (1, H, T, D)
    return linear(x, name + part)
        .view({1, tokens, config_.heads, config_.width / config_.heads})
        .transpose(1, 2);
  };
  const at::Tensor mixed =
      at::scaled_dot_product_attention(by_head("q_proj"), by_head("k_proj"), by_head("v_proj"));
  return linear(mixed.transpose(1, 2).reshape({tokens, config_.width}), name + "out_proj");
}

at::Tensor ClipVision::penultimate(const at::Tensor& pixels) const {
  check(pixels.sizes() == at::IntArrayRef({3, config_.image, config_.image}),
        "pixels of (3, image, image): ", pixels.sizes());
  const at::NoGradGuard no_grad;
  const at::Tensor patches = at::conv2d(pixels.unsqueeze(0), weight(kPatches).to(at::kFloat), {},
                                        config_.patch);  // (1, width, n, n)
  const at::Tensor first = weight("embeddings.class_embedding").to(at::kFloat).unsqueeze(0);
  at::Tensor x = at::cat({first, patches.flatten(2).squeeze(0).t()}) +
                 weight(kPositions).to(at::kFloat);  // (T, width)
  x = normalize(x, "pre_layrnorm");
  for (int64_t i = 0; i + 1 < config_.layers; ++i) {
    const std::string layer = layer_name(i);
    x = x + attention(normalize(x, layer + "layer_norm1"), layer + "self_attn.");
    const at::Tensor up = linear(normalize(x, layer + "layer_norm2"), layer + "mlp.fc1");
    const at::Tensor inner =
        config_.activation == "gelu" ? at::gelu(up) : up * at::sigmoid(up * 1.702);
    x = x + linear(inner, layer + "mlp.fc2");
  }
  return x;
}

}  // namespace pendulum
