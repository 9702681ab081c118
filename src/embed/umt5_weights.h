// The published weights of a UMT5 encoder: which sizes it has, and its tensors under one set of
// names.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "safetensors/sharded.h"

namespace pendulum {

struct Umt5Config {
  int64_t vocabulary = 0;  // rows of the embedding
  int64_t width = 0;
  int64_t heads = 0, head_width = 0;
  int64_t inner = 0;  // width of the MLP
  int64_t layers = 0;
  int64_t buckets = 32;        // of relative positions
  int64_t max_distance = 128;  // tokens; what is farther shares a bucket
  double eps = 1e-6;
};

// DataError names `name` and the key that is missing or of another architecture.
Umt5Config read_umt5_config(const nlohmann::json& config, const std::string& name);

class Umt5Weights {
 public:
  // path: a folder with config.json and weights, or a safetensors file in transformers' names, as
  // ComfyUI's are, or in the original ones (Wan's models_t5_umt5-xxl-enc). A file's sizes are those
  // of its shapes. DataError names the path and the first tensor that is missing, surplus or of
  // another shape or type, as the file calls it.
  static Umt5Weights open(const std::string& path);

  const Umt5Config& config() const { return config_; }
  // transformers' names of all tensors.
  std::vector<std::string> names() const;
  // By transformers' name ("encoder.final_layer_norm.weight"): the file's own pages, in its type.
  at::Tensor map(const std::string& name) const;
  // The files that hold them, with config.json where there is one.
  std::vector<std::string> paths() const;
  // spiece.model, which ComfyUI's files carry as a tensor; empty where there is none.
  std::string embedded_tokenizer() const;

 private:
  explicit Umt5Weights(ShardedSafetensors tensors) : tensors_(std::move(tensors)) {}
  std::string name_in_file(const std::string& name) const;
  const std::vector<int64_t>& shape_of(const std::string& name, size_t dimensions) const;
  Umt5Config config_from_shapes() const;
  void check_tensors() const;

  ShardedSafetensors tensors_;
  bool is_original_ = false;
  std::string config_path_;
  Umt5Config config_;
};

}  // namespace pendulum
