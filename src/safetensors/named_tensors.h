// Tensors with names, in an order: what models, optimisers, checkpoints and exports hand to each
// other.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace pendulum {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

}  // namespace pendulum
