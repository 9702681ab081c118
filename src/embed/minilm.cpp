// Names of tensors and the order of operations follow the published checkpoints of BERT.
#include "embed/minilm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_file.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

nlohmann::json read_config(const std::string& path) {
  const nlohmann::json config = read_json(path);
  if (!config.is_object()) throw DataError(text(path, ": is not a JSON object"));
  const auto require = [&](const char* name, const char* expected) {
    const auto found = config.find(name);
    if (found != config.end() && *found != expected) {
      throw DataError(
          text(path, ": ", name, " is ", found->dump(), "; this encoder has ", expected));
    }
  };
  require("model_type", "bert");
  require("hidden_act", "gelu");
  require("position_embedding_type", "absolute");
  return config;
}

template <class T>
T number(const nlohmann::json& config, const char* name, const std::string& path) {
  const auto found = config.find(name);
  if (found == config.end() || !found->is_number())
    throw DataError(text(path, ": has no number '", name, "'"));
  return found->get<T>();
}

// Loads tensors of the wanted shape as fp32; some files put "bert." before every name.
class Weights {
 public:
  explicit Weights(const std::string& path)
      : file_(SafetensorsFile::open(path)),
        prefix_(file_.contains("bert.embeddings.word_embeddings.weight") ? "bert." : "") {}

  at::Tensor load(const std::string& name, at::IntArrayRef shape) const {
    at::Tensor tensor = file_.load(prefix_ + name).to(at::kFloat);
    if (tensor.sizes() != shape) {
      throw DataError(text(file_.path(), ": ", name, " is ", tensor.sizes(), ", expected ", shape));
    }
    return tensor;
  }
  int64_t rows(const std::string& name) const {
    const auto& shape = file_.info(prefix_ + name).shape;
    if (shape.empty()) throw DataError(text(file_.path(), ": ", name, " has no rows"));
    return shape[0];
  }

 private:
  SafetensorsFile file_;
  std::string prefix_;
};

}  // namespace

MiniLm::MiniLm(const std::string& folder) {
  const std::string config_path = folder + "/config.json";
  const nlohmann::json config = read_config(config_path);
  const auto width = number<int64_t>(config, "hidden_size", config_path);
  const auto inner = number<int64_t>(config, "intermediate_size", config_path);
  const auto layers = number<int64_t>(config, "num_hidden_layers", config_path);
  heads_ = number<int64_t>(config, "num_attention_heads", config_path);
  eps_ = number<double>(config, "layer_norm_eps", config_path);
  if (heads_ < 1 || width < 1 || inner < 1 || layers < 1 || width % heads_ != 0) {
    throw DataError(text(config_path, ": ", heads_, " heads do not divide ", width, " channels"));
  }

  const Weights weights(folder + "/model.safetensors");
  const auto affine = [&](const std::string& name, at::IntArrayRef shape) {
    return Affine{weights.load(name + ".weight", shape), weights.load(name + ".bias", {shape[0]})};
  };
  const auto table = [&](const std::string& name) {
    return weights.load(name, {weights.rows(name), width});
  };
  word_embeddings_ = table("embeddings.word_embeddings.weight");
  positions_ = table("embeddings.position_embeddings.weight") +
               table("embeddings.token_type_embeddings.weight").select(0, 0);
  embedding_norm_ = affine("embeddings.LayerNorm", {width});
  for (int64_t i = 0; i < layers; ++i) {
    const std::string name = text("encoder.layer.", i, ".");
    const Affine query = affine(name + "attention.self.query", {width, width});
    const Affine key = affine(name + "attention.self.key", {width, width});
    const Affine value = affine(name + "attention.self.value", {width, width});
    layers_.push_back({{at::cat({query.weight, key.weight, value.weight}),
                        at::cat({query.bias, key.bias, value.bias})},
                       affine(name + "attention.output.dense", {width, width}),
                       affine(name + "attention.output.LayerNorm", {width}),
                       affine(name + "intermediate.dense", {inner, width}),
                       affine(name + "output.dense", {width, inner}),
                       affine(name + "output.LayerNorm", {width})});
  }
}

at::Tensor MiniLm::normalize(const Affine& norm, const at::Tensor& x) const {
  return at::layer_norm(x, {width()}, norm.weight, norm.bias, eps_);
}

at::Tensor MiniLm::attention(const Layer& layer, const at::Tensor& x) const {
  const at::Tensor all = at::linear(x, layer.query_key_value.weight, layer.query_key_value.bias);
  const at::Tensor qkv_hnd =
      all.view({x.size(0), 3, heads_, width() / heads_}).permute({1, 2, 0, 3});
  const at::Tensor mixed_hnd = at::scaled_dot_product_attention(
      qkv_hnd[0].unsqueeze(0), qkv_hnd[1].unsqueeze(0), qkv_hnd[2].unsqueeze(0));  // (1, H, T, D)
  const at::Tensor mixed = mixed_hnd.squeeze(0).transpose(0, 1).reshape({x.size(0), width()});
  return at::linear(mixed, layer.attention_out.weight, layer.attention_out.bias);
}

at::Tensor MiniLm::forward(const std::vector<int64_t>& tokens) const {
  const auto count = static_cast<int64_t>(tokens.size());
  check(count >= 1 && count <= max_tokens(), "tokens within the model's positions: ", count);
  for (const int64_t token : tokens) {
    check(token >= 0 && token < vocabulary(), "a token of the vocabulary: ", token);
  }
  const at::NoGradGuard no_grad;
  const at::Tensor numbers = at::tensor(tokens, at::kLong);
  at::Tensor x = word_embeddings_.index_select(0, numbers) + positions_.narrow(0, 0, count);
  x = normalize(embedding_norm_, x);  // (T, width)
  for (const Layer& layer : layers_) {
    x = normalize(layer.attention_norm, x + attention(layer, x));
    const at::Tensor inner = at::gelu(at::linear(x, layer.up.weight, layer.up.bias));
    x = normalize(layer.output_norm, x + at::linear(inner, layer.down.weight, layer.down.bias));
  }
  return x;
}

}  // namespace pendulum
