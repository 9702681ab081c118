// Tensors (B, N, H, d) as kernels/attention.h takes them.
#pragma once
#include <ATen/core/Tensor.h>

#include <cmath>
#include <type_traits>

#include "kernels/attention.h"
#include "ops/launch.h"

namespace pendulum {

// (B, N, H, d) as ATen's kernels want it, (B, H, N, d), which they take strided: copies nothing.
inline at::Tensor heads_first(const at::Tensor& x) { return x.transpose(1, 2); }

// Of a tensor whose heads lie side by side.
template <class T, class Element = std::remove_const_t<T>>
kernels::TokensView<T> view_of(const at::Tensor& x) {
  return {pointer<Element>(x), x.stride(0), x.stride(1)};
}

inline kernels::AttentionSizes sizes_of(const at::Tensor& query, const at::Tensor& key) {
  return {.batch = query.size(0),
          .queries = query.size(1),
          .keys = key.size(1),
          .heads = query.size(2),
          .head_dim = query.size(3),
          .scale = 1 / std::sqrt(static_cast<double>(query.size(3)))};
}

}  // namespace pendulum
