// A video transformer's parameters in memory: where they lie, which role each has, loading and
// moving them.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "model/parameters.h"
#include "model/video_transformer.h"

namespace pendulum {
namespace {

// Parameters that one product reads together share a storage: "blocks.3.attn1.to_k.bias" ->
// "blocks.3.attn1 bias". A cross-attention's query reads other inputs and stands alone. Empty:
// alone.
std::string neighbourhood(const std::string& name) {
  if (name.find(".lora_") != std::string::npos) return "";
  // The image states' key and value.
  if (const size_t added = name.find(".attn2.add_"); added != std::string::npos)
    return name.substr(0, added) + ".image " + name.substr(name.rfind('.') + 1);
  const size_t cross = name.find(".attn2.to_");
  const size_t self = name.find(".attn1.to_");
  const size_t at = cross != std::string::npos ? cross : self;
  if (at == std::string::npos) return "";
  const std::string layer = name.substr(at + 10, 2);  // "q.", "k.", "v.", "ou"
  if (layer == "ou" || (layer == "q." && cross != std::string::npos)) return "";
  return name.substr(0, at + 6) + " " + name.substr(name.rfind('.') + 1);
}

// Empty tensors for all specs; neighbours one behind the other, so that joined() copies nothing.
NamedTensors allocate(const std::vector<ParameterSpec>& specs, const at::TensorOptions& options) {
  std::map<std::string, int64_t> rows;
  for (const ParameterSpec& spec : specs) rows[neighbourhood(spec.name)] += spec.shape[0];
  std::map<std::string, std::pair<at::Tensor, int64_t>> shared;  // the storage, and its rows in use
  NamedTensors out;
  for (const ParameterSpec& spec : specs) {
    const std::string place = neighbourhood(spec.name);
    if (place.empty()) {
      out.emplace_back(spec.name, at::empty(spec.shape, options));
      continue;
    }
    auto& [storage, used] = shared[place];
    if (!storage.defined()) {
      std::vector<int64_t> shape = spec.shape;
      shape[0] = rows[place];
      storage = at::empty(shape, options);
    }
    out.emplace_back(spec.name, storage.narrow(0, used, spec.shape[0]).detach());
    used += spec.shape[0];
  }
  return out;
}

// Overwrites `parameters` with the values of their names, which must be these and no others.
void fill(const NamedTensors& parameters, const std::map<std::string, at::Tensor>& values) {
  const std::map<std::string, at::Tensor> known(parameters.begin(), parameters.end());
  for (const auto& [name, tensor] : values) {
    if (!known.contains(name))
      throw DataError(text("the weights hold a tensor ", name, ", which this model does not have"));
  }
  for (const auto& [name, tensor] : parameters) {
    const auto found = values.find(name);
    if (found == values.end()) throw DataError(text("the weights lack the tensor ", name));
    if (found->second.sizes() != tensor.sizes())
      throw DataError(text("the weights' tensor ", name, " has the shape ", found->second.sizes(),
                           ", this model's has ", tensor.sizes()));
  }
  for (const auto& [name, tensor] : parameters) tensor.detach().copy_(values.at(name));
}

}  // namespace

VideoTransformer::VideoTransformer(const WanConfig& config, std::optional<uint64_t> seed,
                                   at::ScalarType master)
    : config_(config), compute_(master) {
  check(master == at::kFloat || master == at::kDouble, "parameters in fp32 or fp64");
  parameters_ = allocate(parameter_specs(config), at::TensorOptions(master));
  if (seed) start(parameters_, *seed);
  for (auto& [name, tensor] : parameters_) tensor.set_requires_grad(true);
  bind();
}

VideoTransformer::VideoTransformer(const WanConfig& config, WeightStorage blocks,
                                   at::ScalarType master)
    : config_(config), compute_(master), stored_(std::make_unique<StoredBlocks>(config, blocks)) {
  check(master == at::kFloat || master == at::kDouble, "parameters in fp32 or fp64");
  parameters_ = allocate(specs(), at::TensorOptions(master));
  bind();
}

// Of what is a parameter.
std::vector<ParameterSpec> VideoTransformer::specs() const {
  std::vector<ParameterSpec> all = parameter_specs(config_);
  std::erase_if(all, [this](const auto& spec) { return stored_ && stored_->find(spec.name); });
  for (ParameterSpec& spec : adapter_specs(config_, lora_)) all.push_back(std::move(spec));
  return all;
}

void VideoTransformer::add_adapters(const LoraConfig& lora, uint64_t seed) {
  check(!has_adapters() && lora.rank > 0, "adapters once, of a rank above 0");
  for (auto& [name, tensor] : parameters_) tensor.set_requires_grad(false);
  for (const ParameterSpec& spec : adapter_specs(config_, lora)) {
    at::Tensor parameter = at::empty(spec.shape, table_.options().requires_grad(false));
    start_parameter(parameter, spec, seed);
    parameters_.emplace_back(spec.name, parameter.set_requires_grad(true));
  }
  lora_ = lora;
  bind();
}

NamedTensors VideoTransformer::base() const {
  const size_t count = parameters_.size() - adapter_specs(config_, lora_).size();
  return {parameters_.begin(), parameters_.begin() + static_cast<int64_t>(count)};
}

NamedTensors VideoTransformer::trainable() const {
  if (!has_adapters()) return parameters_;
  return {parameters_.begin() + static_cast<int64_t>(base().size()), parameters_.end()};
}

void VideoTransformer::merge_adapters() {
  if (!has_adapters()) return;
  check(!stored_, "weights that are parameters, to merge adapters into");
  const std::map<std::string, at::Tensor> values(parameters_.begin(), parameters_.end());
  for (const std::string& layer : adapted_layers(config_, lora_.targets)) {
    const at::NoGradGuard no_grad;
    at::Tensor weight = values.at(layer + ".weight");
    weight.add_(merged_difference(
        {values.at(adapter_down(layer)), values.at(adapter_up(layer)), lora_.scale()}));
  }
  parameters_ = base();
  lora_ = {};
  bind();
}

void VideoTransformer::bind() {
  std::map<std::string, at::Tensor> by_name;
  for (auto& [name, tensor] : parameters_) by_name[name] = tensor;
  const auto linear_at = [&](const std::string& name) {
    LinearWeights layer{.weight = {}, .bias = by_name.at(name + ".bias")};
    if (stored_) layer.stored = stored_->find(name + ".weight");
    if (!layer.stored) layer.weight = by_name.at(name + ".weight");
    if (by_name.contains(adapter_down(name))) {
      layer.adapter = {by_name.at(adapter_down(name)), by_name.at(adapter_up(name)), lora_.scale()};
    }
    return layer;
  };
  const auto attention_at = [&](const std::string& name) {
    return AttentionWeights{
        linear_at(name + ".to_q"),           linear_at(name + ".to_k"),
        linear_at(name + ".to_v"),           linear_at(name + ".to_out.0"),
        by_name.at(name + ".norm_q.weight"), by_name.at(name + ".norm_k.weight")};
  };
  table_ = by_name.at("scale_shift_table");
  patch_ = linear_at("patch_embedding");
  time_in_ = linear_at("condition_embedder.time_embedder.linear_1");
  time_out_ = linear_at("condition_embedder.time_embedder.linear_2");
  time_table_ = linear_at("condition_embedder.time_proj");
  text_in_ = linear_at("condition_embedder.text_embedder.linear_1");
  text_out_ = linear_at("condition_embedder.text_embedder.linear_2");
  last_ = linear_at("proj_out");
  if (config_.image_dim > 0) {
    const std::string image = "condition_embedder.image_embedder.";
    if (config_.image_positions > 0) image_positions_ = by_name.at(image + "pos_embed");
    image_norm_in_ = by_name.at(image + "norm1.weight");
    image_shift_in_ = by_name.at(image + "norm1.bias");
    image_in_ = linear_at(image + "ff.net.0.proj");
    image_out_ = linear_at(image + "ff.net.2");
    image_norm_out_ = by_name.at(image + "norm2.weight");
    image_shift_out_ = by_name.at(image + "norm2.bias");
  }
  blocks_.clear();
  for (int layer = 0; layer < config_.layers; ++layer) {
    const std::string name = "blocks." + std::to_string(layer);
    BlockWeights block{.table = by_name.at(name + ".scale_shift_table"),
                       .self = attention_at(name + ".attn1"),
                       .cross = attention_at(name + ".attn2"),
                       .norm_weight = {},
                       .norm_bias = {},
                       .up = linear_at(name + ".ffn.net.0.proj"),
                       .down = linear_at(name + ".ffn.net.2")};
    if (config_.image_dim > 0) {
      block.image = {linear_at(name + ".attn2.add_k_proj"), linear_at(name + ".attn2.add_v_proj"),
                     by_name.at(name + ".attn2.norm_added_k.weight")};
    }
    if (config_.cross_attn_norm) {
      block.norm_weight = by_name.at(name + ".norm2.weight");
      block.norm_bias = by_name.at(name + ".norm2.bias");
    }
    blocks_.push_back(std::move(block));
  }
}

int64_t VideoTransformer::parameter_count() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : parameters_) count += tensor.numel();
  return count;
}

int VideoTransformer::first_trained_block() const {
  int first = config_.layers;
  for (const auto& [name, tensor] : parameters_) {
    if (!tensor.requires_grad() || name == "scale_shift_table" || name.starts_with("proj_out."))
      continue;
    const int block = block_of(name);
    if (block < 0) return 0;  // flows into all of them
    first = std::min(first, block);
  }
  return first;
}

void VideoTransformer::start(const NamedTensors& these, uint64_t seed) {
  std::map<std::string, ParameterSpec> specs;
  for (ParameterSpec& spec : parameter_specs(config_)) specs[spec.name] = spec;
  for (const auto& [name, tensor] : these) {
    at::Tensor values = tensor.detach();
    start_parameter(values, specs.at(name), seed);
  }
}

void VideoTransformer::load(const std::map<std::string, at::Tensor>& values) {
  fill(parameters_, values);
}

void VideoTransformer::load_trainable(const std::map<std::string, at::Tensor>& values) {
  fill(trainable(), values);
}

void VideoTransformer::set_compute(at::ScalarType type) {
  const bool is_wide = table_.scalar_type() == at::kDouble;
  check(is_wide ? type == at::kDouble : type == at::kFloat || type == at::kBFloat16,
        "fp32 or bf16 compute, or fp64 with fp64 parameters");
  compute_ = type;
}

void VideoTransformer::store(const std::string& name, const at::Tensor& values) {
  check(stored_ != nullptr, "a model with stored matrices, for ", name);
  stored_->set(name, values);
}

void VideoTransformer::set_swap_blocks(int blocks) {
  if (blocks > config_.layers)
    throw ConfigError(
        text("model.swap_blocks is ", blocks, ", but the model has ", config_.layers, " blocks"));
  check(stored_ != nullptr, "stored matrices, to swap them");
  stored_->move_to(device(), blocks);
}

void VideoTransformer::to(at::Device target) {
  if (target == device()) return;
  if (stored_) stored_->move_to(target, stored_->swapped());
  NamedTensors moved = allocate(specs(), table_.options().device(target).requires_grad(false));
  for (size_t i = 0; i < moved.size(); ++i) {
    moved[i].second.copy_(parameters_[i].second.detach());
    moved[i].second.set_requires_grad(parameters_[i].second.requires_grad());
  }
  parameters_ = std::move(moved);
  bind();
}

}  // namespace pendulum
