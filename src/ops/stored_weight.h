// Weights that do not train, stored in fewer bytes than products take them in: restored for every
// use, forward and backward, and dropped behind it.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace pendulum {

// fp32: as they are. bf16: rounded. fp8, int8: codes of 8 bits, E4M3 or whole numbers, with an fp32
// scale for every 64 neighbours of a row (kernels/scaled_codes.h).
enum class WeightStorage { fp32, bf16, fp8, int8 };
// ConfigError names model.frozen_precision.
WeightStorage parse_weight_storage(const std::string& name);
// For people: "int8 with a scale for every 64".
std::string in_words(WeightStorage storage);

struct StoredWeight {
  WeightStorage storage = WeightStorage::fp32;
  int64_t rows = 0, columns = 0;
  // Undefined while the weight is elsewhere (model/stored_blocks.h).
  at::Tensor codes{};   // (M, K) in code_type(storage)
  at::Tensor scales{};  // (M, scales_per_row(storage, K)) fp32; undefined where there are none
};
using StoredWeights = std::vector<std::shared_ptr<const StoredWeight>>;

at::ScalarType code_type(WeightStorage storage);
int64_t scales_per_row(WeightStorage storage, int64_t columns);

// Whether all values are finite, and not so large that a rounding up would make them infinite.
bool is_storable(const at::Tensor& values);
// Writes codes and scales, which are defined and on the CPU, of `values` (M, K), any floating type
// on the CPU, storable.
void store(const StoredWeight& weight, const at::Tensor& values);
// Two or three weights of one width as one (sum M_i, K), or a single one: the fp32 values rounded
// to `type`. Where they are stored in that type, and one behind the other, nothing is copied.
at::Tensor restored(const StoredWeights& weights, at::ScalarType type);

// project(x, restored(weights, x's type), bias) to the bit, and its gradient with respect to x. The
// graph keeps the stored weights alone; x is not kept, and the bias takes no gradient.
at::Tensor project(const at::Tensor& x, const StoredWeights& weights, const at::Tensor& bias = {});

}  // namespace pendulum
