// Low-rank adapters (Hu et al., arXiv 2106.09685): beside a layer's frozen weight W (M, K) two
// small trained ones, A (R, K) and B (M, R); the layer computes x W^T + scale (x A^T) B^T.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "model/config.h"
#include "model/parameters.h"

namespace pendulum {

struct Adapter {
  at::Tensor down, up;  // A (R, K), B (M, R)
  double scale = 1;     // alpha / R
};

// The linear layers of the blocks that `targets` mean, in the model's order: those whose name ends
// with one of them, at a dot. ConfigError names a target that means no layer.
std::vector<std::string> adapted_layers(const WanConfig& config,
                                        const std::vector<std::string>& targets);

// The adapters' parameters under PEFT's names, "blocks.0.attn1.to_q.lora_A.weight". B starts at
// zero, so that training starts from the imported model. ConfigError as above, and for a rank above
// a layer's width.
std::vector<ParameterSpec> adapter_specs(const WanConfig& config, const LoraConfig& lora);

// Names of a layer's two matrices.
std::string adapter_down(const std::string& layer);
std::string adapter_up(const std::string& layer);

// y (..., M) = x W^T of x (..., K), with what the adapter adds. Without an adapter y itself.
at::Tensor with_adapter(const at::Tensor& y, const at::Tensor& x,
                        const std::optional<Adapter>& adapter);
// The same for several layers of one width and one input side by side: y (..., n M). Any of them
// may have none.
at::Tensor with_adapters(const at::Tensor& y, const at::Tensor& x,
                         const std::vector<const std::optional<Adapter>*>& adapters);

// What an adapter adds to its layer's weight, (M, K).
at::Tensor merged_difference(const Adapter& adapter);

}  // namespace pendulum
