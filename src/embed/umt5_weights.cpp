// One table for the original layout, and what a set of weights must hold.
#include "embed/umt5_weights.h"

#include <ATen/ATen.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/json_fields.h"
#include "core/json_file.h"
#include "safetensors/expected_tensors.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kEmbedding = "shared.weight";
constexpr const char* kTiedEmbedding = "encoder.embed_tokens.weight";  // the same under two names
constexpr const char* kTokenizer = "spiece_model";

// What stands in transformers' name, and what in that of Wan's t5.py.
constexpr std::array<std::pair<const char*, const char*>, 8> kOriginal{{
    {"encoder.block.", "blocks."},
    {".layer.0.SelfAttention.relative_attention_bias.", ".pos_embedding.embedding."},
    {".layer.0.SelfAttention.", ".attn."},
    {".layer.0.layer_norm.", ".norm1."},
    {".layer.1.layer_norm.", ".norm2."},
    {".layer.1.DenseReluDense.wi_0.", ".ffn.gate.0."},
    {".layer.1.DenseReluDense.wi_1.", ".ffn.fc1."},
    {".layer.1.DenseReluDense.wo.", ".ffn.fc2."},
}};

std::string original_name(std::string name) {
  if (name == kEmbedding) return "token_embedding.weight";
  if (name == "encoder.final_layer_norm.weight") return "norm.weight";
  for (const auto& [transformers, original] : kOriginal) {
    const size_t at = name.find(transformers);
    if (at != std::string::npos) name.replace(at, std::string(transformers).size(), original);
  }
  return name;
}

// Every tensor of such an encoder, by transformers' name.
std::vector<ExpectedTensor> expected_tensors(const Umt5Config& c) {
  const int64_t all_heads = c.heads * c.head_width;
  std::vector<ExpectedTensor> out{{kEmbedding, {c.vocabulary, c.width}},
                                  {"encoder.final_layer_norm.weight", {c.width}}};
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string block = text("encoder.block.", i, ".layer.");
    const std::string attention = block + "0.SelfAttention.", mlp = block + "1.DenseReluDense.";
    out.push_back({block + "0.layer_norm.weight", {c.width}});
    for (const char* part : {"q", "k", "v"})
      out.push_back({attention + part + ".weight", {all_heads, c.width}});
    out.push_back({attention + "o.weight", {c.width, all_heads}});
    out.push_back({attention + "relative_attention_bias.weight", {c.buckets, c.heads}});
    out.push_back({block + "1.layer_norm.weight", {c.width}});
    out.push_back({mlp + "wi_0.weight", {c.inner, c.width}});
    out.push_back({mlp + "wi_1.weight", {c.inner, c.width}});
    out.push_back({mlp + "wo.weight", {c.width, c.inner}});
  }
  return out;
}

}  // namespace

Umt5Config read_umt5_config(const json& config, const std::string& name) {
  const JsonFields fields(config, name);
  for (const auto& [key, expected] :
       {std::pair{"model_type", "umt5"}, std::pair{"feed_forward_proj", "gated-gelu"}}) {
    if (fields.has(key)) fields.one_of(key, {expected});
  }
  const auto size = [&](const char* key) { return fields.whole(key, 1); };
  Umt5Config out{.vocabulary = size("vocab_size"),
                 .width = size("d_model"),
                 .heads = size("num_heads"),
                 .head_width = size("d_kv"),
                 .inner = size("d_ff"),
                 .layers = size("num_layers")};
  const char *buckets = "relative_attention_num_buckets",
             *distance = "relative_attention_max_distance", *eps = "layer_norm_epsilon";
  if (fields.has(buckets)) out.buckets = fields.whole(buckets, 4);
  if (fields.has(distance)) out.max_distance = size(distance);
  if (fields.has(eps)) out.eps = fields.number(eps);
  if (out.buckets / 4 >= out.max_distance) {
    throw DataError(text(name, ": ", out.buckets, " buckets do not cover relative positions up to ",
                         out.max_distance));
  }
  return out;
}

std::string Umt5Weights::name_in_file(const std::string& name) const {
  if (is_original_) return original_name(name);
  return name == kEmbedding && !tensors_.contains(kEmbedding) ? kTiedEmbedding : name;
}

Umt5Weights Umt5Weights::open(const std::string& path) {
  if (!fs::exists(path)) throw DataError(text(path, ": there is no such file or folder"));
  Umt5Weights weights(ShardedSafetensors::open(path));
  const ShardedSafetensors& tensors = weights.tensors_;
  weights.is_original_ = tensors.contains(original_name(kEmbedding));
  const std::string bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
  for (const std::string& name : {weights.name_in_file(kEmbedding), weights.name_in_file(bias)}) {
    if (!tensors.contains(name)) {
      throw DataError(text(tensors.path(),
                           ": the tensors are not named as a UMT5 encoder's: there is no ", name));
    }
  }
  const fs::path config = fs::path(path) / "config.json";
  if (fs::is_directory(path) && fs::exists(config)) {
    weights.config_path_ = config.string();
    weights.config_ = read_umt5_config(read_json(weights.config_path_), weights.config_path_);
  } else {
    weights.config_ = weights.config_from_shapes();
  }
  weights.check_tensors();
  return weights;
}

const std::vector<int64_t>& Umt5Weights::shape_of(const std::string& name,
                                                  size_t dimensions) const {
  return tensors_.shape(name_in_file(name), dimensions);
}

Umt5Config Umt5Weights::config_from_shapes() const {
  const std::string attention = "encoder.block.0.layer.0.SelfAttention.";
  const auto& embedding = shape_of(kEmbedding, 2);
  const auto& bias = shape_of(attention + "relative_attention_bias.weight", 2);
  const int64_t all_heads = shape_of(attention + "q.weight", 2)[0];
  Umt5Config config{.vocabulary = embedding[0],
                    .width = embedding[1],
                    .heads = bias[1],
                    .inner = shape_of("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 2)[0],
                    .buckets = bias[0]};
  if (config.heads < 1 || all_heads % config.heads != 0 || config.buckets < 4) {
    throw DataError(text(tensors_.path(), ": ", config.heads, " heads do not divide ", all_heads,
                         " channels, or ", config.buckets, " buckets are too few"));
  }
  config.head_width = all_heads / config.heads;
  while (tensors_.contains(
      name_in_file(text("encoder.block.", config.layers, ".layer.0.SelfAttention.q.weight")))) {
    ++config.layers;
  }
  return config;
}

void Umt5Weights::check_tensors() const {
  std::vector<ExpectedTensor> expected = expected_tensors(config_);
  for (ExpectedTensor& tensor : expected) tensor.name = name_in_file(tensor.name);
  std::vector<std::string> also{kTokenizer};
  if (!is_original_) also.push_back(kTiedEmbedding);
  require_tensors(tensors_, expected, kPlainFloats, "a UMT5 encoder", also);
}

std::vector<std::string> Umt5Weights::names() const {
  std::vector<std::string> names;
  for (const ExpectedTensor& tensor : expected_tensors(config_)) names.push_back(tensor.name);
  return names;
}

at::Tensor Umt5Weights::map(const std::string& name) const {
  return tensors_.map(name_in_file(name));
}

std::vector<std::string> Umt5Weights::paths() const {
  std::vector<std::string> paths = tensors_.paths();
  if (!config_path_.empty()) paths.insert(paths.begin(), config_path_);
  return paths;
}

std::string Umt5Weights::embedded_tokenizer() const {
  if (!tensors_.contains(kTokenizer)) return "";
  const at::Tensor bytes = tensors_.load(kTokenizer);
  return {static_cast<const char*>(bytes.data_ptr()), bytes.nbytes()};
}

}  // namespace pendulum
