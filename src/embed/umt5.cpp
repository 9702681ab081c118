// The order of operations is that of transformers' modeling_umt5.py.
// T: tokens, H: heads, D: width of a head.
#include "embed/umt5.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "core/error.h"
#include "embed/stored_linear.h"

namespace pendulum {
namespace {

// (T, T): the bucket of key minus query. Half of the buckets are for keys behind the query; of each
// half, half for single distances, half for distances that grow up to max_distance. In fp32, as
// published: where a logarithm falls on a whole number, rounding decides.
at::Tensor position_buckets(int64_t tokens, const Umt5Config& config) {
  const int64_t half = config.buckets / 2, exact = half / 2;
  const at::Tensor distance = at::arange(1 - tokens, tokens, at::kLong);  // 2T - 1
  const at::Tensor size = distance.abs();
  const at::Tensor share =
      at::log(size.to(at::kFloat) / static_cast<double>(exact)) /
      std::log(static_cast<double>(config.max_distance) / static_cast<double>(exact));
  // Distance 0 gives minus infinity, which is no integer and is not looked at.
  const at::Tensor far =
      (share.clamp_min(0) * static_cast<double>(half - exact)).to(at::kLong) + exact;
  const at::Tensor bucket =
      at::where(size < exact, size, far.clamp_max(half - 1)) + (distance > 0).to(at::kLong) * half;
  const at::Tensor position = at::arange(tokens, at::kLong);
  const at::Tensor place = position.unsqueeze(0) - position.unsqueeze(1) + (tokens - 1);
  return bucket.index_select(0, place.reshape(-1)).view({tokens, tokens});
}

std::string block_name(int64_t layer) { return text("encoder.block.", layer, ".layer."); }

}  // namespace

Umt5::Umt5(Umt5Weights weights, at::Device device, std::optional<at::ScalarType> compute)
    : weights_(std::move(weights)), device_(device), compute_(compute) {
  check(device_.is_cpu() || compute_, "a type to compute in on a device");
  for (const std::string& name : weights_.names()) {
    const at::Tensor mapped = weights_.map(name);
    weights_by_name_[name] =
        compute_ ? mapped.to(device_, *compute_, /*non_blocking=*/false, /*copy=*/true) : mapped;
  }
}

at::Tensor Umt5::linear(const at::Tensor& x, const std::string& name) const {
  const at::Tensor& stored = weight(name);
  if (compute_) return at::mm(x.to(*compute_), stored.t()).to(at::kFloat);
  return stored_linear(x, stored);
}

at::Tensor Umt5::normalize(const at::Tensor& x, const std::string& name) const {
  const at::Tensor variance = x.pow(2).mean(-1, /*keepdim=*/true);
  return weight(name).to(at::kFloat) * (x * at::rsqrt(variance + config().eps));
}

at::Tensor Umt5::attention(const at::Tensor& x, const at::Tensor& buckets,
                           const std::string& name) const {
  const int64_t tokens = x.size(0), heads = config().heads;
  const auto by_head = [&](const char* part) {
    return linear(x, name + part)
        .view({tokens, heads, config().head_width})
        .transpose(0, 1);  // (H, T, D)
  };
  const at::Tensor q_htd = by_head("q.weight"), k_htd = by_head("k.weight"),
                   v_htd = by_head("v.weight");
  const at::Tensor bias = weight(name + "relative_attention_bias.weight").to(at::kFloat);
  const at::Tensor bias_htt = bias.t().index_select(1, buckets.reshape(-1));
  const at::Tensor scores =
      at::matmul(q_htd, k_htd.transpose(1, 2)) + bias_htt.view({heads, tokens, tokens});
  const at::Tensor mixed = at::matmul(at::softmax(scores, -1), v_htd);  // (H, T, D)
  return linear(mixed.transpose(0, 1).reshape({tokens, -1}), name + "o.weight");
}

at::Tensor Umt5::forward(const std::vector<int64_t>& tokens) const {
  const auto count = static_cast<int64_t>(tokens.size());
  check(count >= 1, "at least one token");
  for (const int64_t token : tokens)
    check(token >= 0 && token < config().vocabulary, "a token of the vocabulary: ", token);
  const at::NoGradGuard no_grad;
  const at::Tensor numbers = at::tensor(tokens, at::kLong).to(device_);
  const at::Tensor buckets = position_buckets(count, config()).to(device_);
  at::Tensor x = weight("shared.weight").index_select(0, numbers).to(at::kFloat);  // (T, width)
  for (int64_t i = 0; i < config().layers; ++i) {
    const std::string block = block_name(i), mlp = block + "1.DenseReluDense.";
    const at::Tensor y = normalize(x, block + "0.layer_norm.weight");
    x = x + attention(y, buckets, block + "0.SelfAttention.");
    const at::Tensor z = normalize(x, block + "1.layer_norm.weight");
    const at::Tensor gate = at::gelu(linear(z, mlp + "wi_0.weight"), "tanh");
    x = x + linear(gate * linear(z, mlp + "wi_1.weight"), mlp + "wo.weight");
  }
  return normalize(x, "encoder.final_layer_norm.weight").cpu();
}

}  // namespace pendulum
