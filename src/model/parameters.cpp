// The names, shapes and first values of a video transformer's parameters.
#include "model/parameters.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

class SpecList {
 public:
  void add(const std::string& name, std::vector<int64_t> shape, Start start, int64_t fan_in = 1) {
    specs.push_back({name, std::move(shape), start, fan_in});
  }
  void linear(const std::string& name, int64_t in, int64_t out, Start start = Start::uniform) {
    add(name + ".weight", {out, in}, start, in);
    add(name + ".bias", {out}, start, in);
  }
  void norm(const std::string& name, int64_t dim) {
    add(name + ".weight", {dim}, Start::ones);
    add(name + ".bias", {dim}, Start::zeros);
  }
  void attention(const std::string& name, int64_t dim) {
    for (const char* layer : {".to_q", ".to_k", ".to_v", ".to_out.0"})
      linear(name + layer, dim, dim);
    add(name + ".norm_q.weight", {dim}, Start::ones);
    add(name + ".norm_k.weight", {dim}, Start::ones);
  }
  // Keys and values of the image states, for the queries of `attention`.
  void image_attention(const std::string& name, int64_t dim) {
    linear(name + ".add_k_proj", dim, dim);
    linear(name + ".add_v_proj", dim, dim);
    add(name + ".norm_added_k.weight", {dim}, Start::ones);
  }
  void image_embedder(const std::string& name, const WanConfig& config) {
    const int64_t width = config.image_dim;
    if (config.image_positions > 0)
      add(name + ".pos_embed", {1, config.image_positions, width}, Start::zeros);
    norm(name + ".norm1", width);
    linear(name + ".ff.net.0.proj", width, width);
    linear(name + ".ff.net.2", width, config.dim());
    norm(name + ".norm2", config.dim());
  }
  std::vector<ParameterSpec> specs;
};

uint64_t hash_of(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().cpu().contiguous();
  const std::string kind = text(name, " ", values.sizes(), " ", values.scalar_type());
  return XXH3_64bits_withSeed(values.const_data_ptr(), values.nbytes(), hash_name(kind));
}

std::string digits_of(const std::vector<uint64_t>& hashes) {
  return fmt::format("{:016x}", XXH3_64bits(hashes.data(), hashes.size() * sizeof(uint64_t)));
}

}  // namespace

std::vector<ParameterSpec> parameter_specs(const WanConfig& config) {
  const int64_t dim = config.dim();
  const auto [time, height, width] = config.patch;
  const int64_t patch = static_cast<int64_t>(time) * height * width;
  SpecList list;
  list.add("scale_shift_table", {1, 2, dim}, Start::normal, dim);
  list.add("patch_embedding.weight", {dim, config.in_channels, time, height, width}, Start::uniform,
           config.in_channels * patch);
  list.add("patch_embedding.bias", {dim}, Start::uniform, config.in_channels * patch);
  list.linear("condition_embedder.time_embedder.linear_1", config.freq_dim, dim);
  list.linear("condition_embedder.time_embedder.linear_2", dim, dim);
  list.linear("condition_embedder.time_proj", dim, 6 * dim);
  list.linear("condition_embedder.text_embedder.linear_1", config.text_dim, dim);
  list.linear("condition_embedder.text_embedder.linear_2", dim, dim);
  if (config.image_dim > 0) list.image_embedder("condition_embedder.image_embedder", config);
  for (int layer = 0; layer < config.layers; ++layer) {
    const std::string block = "blocks." + std::to_string(layer);
    list.add(block + ".scale_shift_table", {1, 6, dim}, Start::normal, dim);
    list.attention(block + ".attn1", dim);
    list.attention(block + ".attn2", dim);
    if (config.image_dim > 0) list.image_attention(block + ".attn2", dim);
    if (config.cross_attn_norm) list.norm(block + ".norm2", dim);
    list.linear(block + ".ffn.net.0.proj", dim, config.ffn_dim);
    list.linear(block + ".ffn.net.2", config.ffn_dim, dim);
  }
  list.linear("proj_out", dim, config.out_channels * patch, Start::zeros);
  return list.specs;
}

int block_of(const std::string& name) {
  const std::string blocks = "blocks.";
  return name.starts_with(blocks) ? std::stoi(name.substr(blocks.size())) : -1;
}

bool is_block_matrix(const ParameterSpec& spec) {
  return block_of(spec.name) >= 0 && spec.name.ends_with(".weight") && spec.shape.size() == 2;
}

void start_parameter(at::Tensor& parameter, const ParameterSpec& spec, uint64_t seed) {
  const uint64_t key = draw(Purpose::weights, seed, hash_name(spec.name));
  if (spec.start == Start::ones || spec.start == Start::zeros) {
    parameter.fill_(spec.start == Start::ones ? 1.0 : 0.0);
    return;
  }
  at::Tensor values = at::empty(spec.shape, at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  const double scale = 1.0 / std::sqrt(static_cast<double>(spec.fan_in));
  if (spec.start == Start::normal) {
    fill_normal(out, values.numel(), key);
    values.mul_(scale);
  } else {
    parallel_for(0, values.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double unit = uniform(fold(key, static_cast<uint64_t>(i)));
        out[i] = static_cast<float>((2 * unit - 1) * scale);
      }
    });
  }
  parameter.copy_(values);
}

std::string fingerprint(const NamedTensors& tensors) {
  std::vector<uint64_t> hashes(tensors.size());
  parallel_for(0, static_cast<int64_t>(tensors.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) hashes[i] = hash_of(tensors[i].first, tensors[i].second);
  });
  return digits_of(hashes);
}

void Fingerprint::add(const std::string& name, const at::Tensor& tensor) {
  hashes_.push_back(hash_of(name, tensor));
}
std::string Fingerprint::digits() const { return digits_of(hashes_); }

void randomise(const NamedTensors& parameters, uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : parameters) {
    at::Tensor values = at::empty(parameter.sizes(), at::kFloat);
    fill_normal(values.data_ptr<float>(), values.numel(), draw(seed, hash_name(name)));
    const bool is_vector = parameter.dim() == 1;
    const double fan_in =
        is_vector ? 1 : static_cast<double>(parameter.numel() / parameter.size(0));
    at::Tensor(parameter).copy_(is_vector ? values * 0.1 + 0.5 : values / std::sqrt(fan_in));
  }
}

}  // namespace pendulum
