// A small UMT5 encoder on disk: tensors of sines, a vocabulary of a few pieces.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "safetensors/safetensors.h"
#include "spiece_bytes.h"

namespace pendulum::small_umt5 {

namespace fs = std::filesystem;

inline fs::path temporary_folder(const std::string& name) {
  const fs::path folder = testing::TempDir() + "umt5_" + name + std::to_string(::getpid());
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

inline void write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline constexpr int kWidth = 12, kHeads = 3, kHeadWidth = 4, kInner = 20, kLayers = 2, kRows = 320;

// Tensors of a small encoder, by transformers' names.
inline std::map<std::string, at::Tensor> small_tensors(at::ScalarType type = at::kBFloat16) {
  std::map<std::string, at::Tensor> tensors;
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    const double seed = static_cast<double>(tensors.size());
    const at::Tensor x =
        at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 1.7 + seed);
    tensors[name] = x.reshape(shape).to(type);
  };
  add("shared.weight", {kRows, kWidth});
  add("encoder.final_layer_norm.weight", {kWidth});
  for (int i = 0; i < kLayers; ++i) {
    const std::string block = text("encoder.block.", i, ".layer.");
    for (const char* part : {"q", "k", "v"})
      add(block + "0.SelfAttention." + part + ".weight", {kHeads * kHeadWidth, kWidth});
    add(block + "0.SelfAttention.o.weight", {kWidth, kHeads * kHeadWidth});
    add(block + "0.SelfAttention.relative_attention_bias.weight", {32, kHeads});
    add(block + "0.layer_norm.weight", {kWidth});
    add(block + "1.layer_norm.weight", {kWidth});
    add(block + "1.DenseReluDense.wi_0.weight", {kInner, kWidth});
    add(block + "1.DenseReluDense.wi_1.weight", {kInner, kWidth});
    add(block + "1.DenseReluDense.wo.weight", {kWidth, kInner});
  }
  return tensors;
}

// The same by the names of Wan's t5.py.
inline std::map<std::string, at::Tensor> in_original_names(
    const std::map<std::string, at::Tensor>& tensors) {
  const std::vector<std::pair<std::string, std::string>> rules{
      {"encoder.block.", "blocks."},
      {"layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"},
      {"layer.0.SelfAttention", "attn"},
      {"layer.0.layer_norm", "norm1"},
      {"layer.1.layer_norm", "norm2"},
      {"layer.1.DenseReluDense.wi_0", "ffn.gate.0"},
      {"layer.1.DenseReluDense.wi_1", "ffn.fc1"},
      {"layer.1.DenseReluDense.wo", "ffn.fc2"},
      {"encoder.final_layer_norm", "norm"},
      {"shared", "token_embedding"}};
  std::map<std::string, at::Tensor> original;
  for (const auto& [known, tensor] : tensors) {
    std::string name = known;
    for (const auto& [from, to] : rules) {
      if (const size_t at = name.find(from); at != std::string::npos)
        name.replace(at, from.size(), to);
    }
    original[name] = tensor;
  }
  return original;
}

inline nlohmann::json small_config() {
  return {{"model_type", "umt5"},  {"vocab_size", kRows},
          {"d_model", kWidth},     {"num_heads", kHeads},
          {"d_kv", kHeadWidth},    {"d_ff", kInner},
          {"num_layers", kLayers}, {"feed_forward_proj", "gated-gelu"}};
}

inline void write_tensors(const fs::path& path, const std::map<std::string, at::Tensor>& tensors) {
  fs::create_directories(path.parent_path());
  write_safetensors(path.string(), NamedTensors(tensors.begin(), tensors.end()));
}

inline std::string small_spiece() {
  return spiece_bytes(small_pieces({{"▁", -4}, {"▁a", -3}, {"b", -2}, {"c", -2}}));
}

// diffusers' folder: text_encoder/ and tokenizer/.
inline fs::path small_folder(const std::string& name) {
  const fs::path folder = temporary_folder(name);
  write_tensors(folder / "text_encoder/model.safetensors", small_tensors());
  write(folder / "text_encoder/config.json", small_config().dump());
  write(folder / "tokenizer/spiece.model", small_spiece());
  return folder;
}

}  // namespace pendulum::small_umt5
