// A small CLIP vision model on disk: tensors of sines.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "safetensors/safetensors.h"

namespace pendulum::small_clip {

namespace fs = std::filesystem;

inline constexpr int kWidth = 32, kInner = 48, kLayers = 2, kImage = 28, kPatch = 14, kTokens = 5;

inline std::map<std::string, at::Tensor> small_tensors() {
  std::map<std::string, at::Tensor> tensors;
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    const double seed = static_cast<double>(tensors.size());
    const at::Tensor x =
        at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 1.7 + seed) / 4;
    tensors["vision_model." + name] = x.reshape(shape).to(at::kHalf);
  };
  const auto affine = [&](const std::string& name, std::vector<int64_t> shape) {
    add(name + ".weight", shape);
    add(name + ".bias", {shape[0]});
  };
  add("embeddings.class_embedding", {kWidth});
  add("embeddings.patch_embedding.weight", {kWidth, 3, kPatch, kPatch});
  add("embeddings.position_embedding.weight", {kTokens, kWidth});
  affine("pre_layrnorm", {kWidth});
  affine("post_layernorm", {kWidth});
  for (int i = 0; i < kLayers; ++i) {
    const std::string layer = text("encoder.layers.", i, ".");
    for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"})
      affine(layer + "self_attn." + part, {kWidth, kWidth});
    affine(layer + "layer_norm1", {kWidth});
    affine(layer + "layer_norm2", {kWidth});
    affine(layer + "mlp.fc1", {kInner, kWidth});
    affine(layer + "mlp.fc2", {kWidth, kInner});
  }
  return tensors;
}

inline nlohmann::json small_config() {
  return {{"model_type", "clip_vision_model"},
          {"hidden_size", kWidth},
          {"intermediate_size", kInner},
          {"num_hidden_layers", kLayers},
          {"num_attention_heads", 16},
          {"image_size", kImage},
          {"patch_size", kPatch},
          {"hidden_act", "gelu"}};
}

inline void write(const fs::path& folder, const std::map<std::string, at::Tensor>& tensors) {
  write_safetensors((folder / "model.safetensors").string(),
                    NamedTensors(tensors.begin(), tensors.end()));
}

inline void write(const fs::path& folder, const nlohmann::json& config) {
  std::ofstream(folder / "config.json") << config;
}

// diffusers' folder with image_encoder/; gives the latter.
inline fs::path small_folder(const std::string& name) {
  const fs::path folder = testing::TempDir() + "clip_" + name + std::to_string(::getpid());
  fs::remove_all(folder);
  fs::create_directories(folder / "image_encoder");
  write(folder / "image_encoder", small_tensors());
  write(folder / "image_encoder", small_config());
  return folder / "image_encoder";
}

}  // namespace pendulum::small_clip
