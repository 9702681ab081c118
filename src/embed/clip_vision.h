// CLIP's vision transformer: pixels in, hidden states of its patches out.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "safetensors/sharded.h"

namespace pendulum {

struct ClipVisionConfig {
  int64_t width = 0, inner = 0, layers = 0;
  int64_t heads = 16;
  int64_t image = 0, patch = 0;  // edges, pixels
  std::string activation = "gelu";
  double eps = 1e-5;

  int64_t tokens() const { return (image / patch) * (image / patch) + 1; }  // with the class token
};

// Pre-norm vision transformer of Radford et al. 2021 (arXiv 2103.00020), fp32 on the CPU. Weights
// stay in the file's pages, as those of umt5.h do.
class ClipVision {
 public:
  // path: transformers' folder of a CLIPVisionModel (with or without projection), or its
  // safetensors file in the same names, as ComfyUI's clip_vision_h.safetensors is. A file's sizes
  // are those of its shapes; what shapes do not say is ViT-H/14's: 16 heads, GELU, epsilon 1e-5.
  // DataError names the path and the first tensor or key that is missing, surplus or of another
  // shape.
  explicit ClipVision(const std::string& path);

  // (3, image, image), normalised -> (tokens, width): transformers' hidden_states[-2], what goes
  // into the last layer, which is not computed. Without gradient. Thread-safe.
  at::Tensor penultimate(const at::Tensor& pixels) const;

  const ClipVisionConfig& config() const { return config_; }
  // The files of weights, with config.json where there is one.
  std::vector<std::string> paths() const;

 private:
  const std::vector<int64_t>& shape_of(const std::string& name, size_t dimensions) const;
  ClipVisionConfig config_from_shapes() const;
  void take_tensors();
  const at::Tensor& weight(const std::string& name) const { return weights_.at(name); }
  at::Tensor linear(const at::Tensor& x, const std::string& name) const;
  at::Tensor normalize(const at::Tensor& x, const std::string& name) const;
  at::Tensor attention(const at::Tensor& x, const std::string& name) const;

  ShardedSafetensors tensors_;
  std::string prefix_;  // "vision_model.", or empty
  std::string config_path_;
  ClipVisionConfig config_;
  std::unordered_map<std::string, at::Tensor> weights_;  // without the prefix
};

}  // namespace pendulum
