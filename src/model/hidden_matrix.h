// Which of a model's parameters are matrices between hidden states: those that Muon updates.
#pragma once
#include <ATen/core/Tensor.h>

#include <string_view>

namespace pendulum {

// Those of blocks, adapters' among them. What reads inputs or writes outputs has rows or columns of
// its own scale.
inline bool is_hidden_matrix(std::string_view name, at::IntArrayRef sizes) {
  return sizes.size() == 2 && name.starts_with("blocks.");
}

}  // namespace pendulum
