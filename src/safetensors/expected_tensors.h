// What a set of published weights must hold, and no more.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "safetensors/sharded.h"

namespace pendulum {

struct ExpectedTensor {
  std::string name;  // as the file calls it
  std::vector<int64_t> shape;
};

// What weights are published in, but for 8-bit floats, which have scales of their own.
inline constexpr at::ScalarType kPlainFloats[] = {at::ScalarType::Float, at::ScalarType::BFloat16,
                                                  at::ScalarType::Half};

// DataError names the path and the first tensor that is missing, of another shape, of none of
// `types` (of any floats where these are empty), or surplus: neither expected nor in `also`.
// `model`: whose weights these are, "a UMT5 encoder".
void require_tensors(const ShardedSafetensors& tensors, const std::vector<ExpectedTensor>& expected,
                     at::ArrayRef<at::ScalarType> types, const std::string& model,
                     const std::vector<std::string>& also = {});

}  // namespace pendulum
