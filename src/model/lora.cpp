// Which layers get adapters, and what they add.
#include "model/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "ops/projection.h"

namespace pendulum {
namespace {

constexpr char kWeight[] = ".weight";

// The layer that a matrix belongs to.
std::string layer_of(const ParameterSpec& spec) {
  return spec.name.substr(0, spec.name.size() - std::string(kWeight).size());
}

bool means(const std::string& target, const std::string& layer) {
  return layer == target || layer.ends_with("." + target);
}

// y + scale * h B^T: one pass over y.
at::Tensor added(const at::Tensor& y, const at::Tensor& hidden, const at::Tensor& up,
                 double scale) {
  const at::Tensor rows = y.reshape({-1, y.size(-1)});
  return at::addmm(rows, hidden.reshape({-1, hidden.size(-1)}), up.t(), 1, scale).view(y.sizes());
}

}  // namespace

std::vector<std::string> adapted_layers(const WanConfig& config,
                                        const std::vector<std::string>& targets) {
  std::vector<std::string> layers;
  std::vector<bool> is_used(targets.size(), false);
  std::string valid;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    if (!is_block_matrix(spec)) continue;
    const std::string layer = layer_of(spec);
    if (layer.starts_with("blocks.0."))
      valid += (valid.empty() ? "" : ", ") + layer.substr(std::string("blocks.0.").size());
    bool is_meant = false;
    for (size_t i = 0; i < targets.size(); ++i) {
      if (!means(targets[i], layer)) continue;
      is_meant = is_used[i] = true;
    }
    if (is_meant) layers.push_back(layer);
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!is_used[i])
      throw ConfigError(text("lora.targets: \"", targets[i],
                             "\" is no linear layer of this model's blocks, which have ", valid));
  }
  return layers;
}

std::vector<ParameterSpec> adapter_specs(const WanConfig& config, const LoraConfig& lora) {
  std::vector<ParameterSpec> specs;
  if (lora.rank == 0) return specs;
  const std::vector<std::string> layers = adapted_layers(config, lora.targets);
  for (const ParameterSpec& spec : parameter_specs(config)) {
    if (!is_block_matrix(spec) ||
        std::find(layers.begin(), layers.end(), layer_of(spec)) == layers.end())
      continue;
    const int64_t out = spec.shape[0], in = spec.shape[1];
    if (lora.rank > std::min(out, in)) {
      throw ConfigError(text("lora.rank is ", lora.rank, ", but ", layer_of(spec), " is ", out,
                             " x ", in, ": a larger rank than that adds nothing"));
    }
    specs.push_back({adapter_down(layer_of(spec)), {lora.rank, in}, Start::uniform, in});
    specs.push_back({adapter_up(layer_of(spec)), {out, lora.rank}, Start::zeros, lora.rank});
  }
  return specs;
}

std::string adapter_down(const std::string& layer) { return layer + ".lora_A.weight"; }
std::string adapter_up(const std::string& layer) { return layer + ".lora_B.weight"; }

at::Tensor with_adapter(const at::Tensor& y, const at::Tensor& x,
                        const std::optional<Adapter>& adapter) {
  if (!adapter) return y;
  const at::ScalarType type = x.scalar_type();
  return added(y, project(x, adapter->down.to(type)), adapter->up.to(type), adapter->scale);
}

at::Tensor with_adapters(const at::Tensor& y, const at::Tensor& x,
                         const std::vector<const std::optional<Adapter>*>& adapters) {
  const auto has = [](const std::optional<Adapter>* adapter) { return adapter->has_value(); };
  if (std::none_of(adapters.begin(), adapters.end(), has)) return y;
  if (adapters.size() == 1) return with_adapter(y, x, *adapters.front());
  std::vector<at::Tensor> parts;
  int64_t column = 0;
  // Some may have none, so that widths are those of y's parts, which are alike.
  const int64_t width = y.size(-1) / static_cast<int64_t>(adapters.size());
  for (const std::optional<Adapter>* adapter : adapters) {
    parts.push_back(with_adapter(y.narrow(-1, column, width), x, *adapter));
    column += width;
  }
  return at::cat(parts, -1);
}

at::Tensor merged_difference(const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  return at::mm(adapter.up, adapter.down).mul_(adapter.scale);
}

}  // namespace pendulum
