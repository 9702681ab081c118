// Copies of named tensors, compared bit for bit.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "safetensors/named_tensors.h"

namespace pendulum {

using TensorMap = std::map<std::string, at::Tensor>;

inline TensorMap copied(const NamedTensors& tensors) {
  TensorMap out;
  for (const auto& [name, tensor] : tensors) out[name] = tensor.detach().clone();
  return out;
}

inline void expect_same(const TensorMap& found, const TensorMap& want, const std::string& what) {
  ASSERT_EQ(found.size(), want.size()) << what;
  for (const auto& [name, tensor] : want) {
    ASSERT_TRUE(found.contains(name)) << what << ": " << name;
    EXPECT_TRUE(at::equal(found.at(name), tensor)) << what << ": " << name;
  }
}

}  // namespace pendulum
