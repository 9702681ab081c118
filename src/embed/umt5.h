// The UMT5 encoder: token numbers in, one hidden state per token out.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "embed/umt5_weights.h"

namespace pendulum {

// Pre-norm transformer of Chung et al. 2023 (arXiv 2304.09151): RMS norms without bias, gated MLP
// with GELU (tanh form), scores not scaled, a bias by relative position of its own in every layer.
class Umt5 {
 public:
  // On the CPU (compute unset) weights stay in the file's pages: they are read when needed, shared
  // between processes and given back when memory is short, and are converted to fp32 a few rows at
  // a time while products are computed. Otherwise they are copied to `device` in that type and
  // products are computed in it, all between them in fp32.
  explicit Umt5(Umt5Weights weights, at::Device device = at::kCPU,
                std::optional<at::ScalarType> compute = {});

  // (T) token numbers -> (T, width) fp32 on the CPU: last_hidden_state of transformers'
  // UMT5EncoderModel without any padding. Without gradient. Thread-safe.
  at::Tensor forward(const std::vector<int64_t>& tokens) const;

  const Umt5Config& config() const { return weights_.config(); }
  const Umt5Weights& weights() const { return weights_; }

 private:
  const at::Tensor& weight(const std::string& name) const { return weights_by_name_.at(name); }
  // x (T, in) fp32 -> (T, out) fp32.
  at::Tensor linear(const at::Tensor& x, const std::string& name) const;
  at::Tensor normalize(const at::Tensor& x, const std::string& name) const;
  at::Tensor attention(const at::Tensor& x, const at::Tensor& buckets,
                       const std::string& name) const;

  Umt5Weights weights_;
  at::Device device_;
  std::optional<at::ScalarType> compute_;
  std::unordered_map<std::string, at::Tensor> weights_by_name_;  // transformers' names
};

}  // namespace pendulum
