// Stored weights: codes and scales against fp64, what is restored, and products with them.
#include "ops/stored_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "counting_allocator.h"
#include "ops/projection.h"
#include "support.h"

namespace pendulum {
namespace {

constexpr WeightStorage kStorages[] = {WeightStorage::fp32, WeightStorage::bf16, WeightStorage::fp8,
                                       WeightStorage::int8};
constexpr WeightStorage kScaled[] = {WeightStorage::fp8, WeightStorage::int8};

std::shared_ptr<const StoredWeight> stored(const at::Tensor& values, WeightStorage storage) {
  auto weight = std::make_shared<StoredWeight>(
      StoredWeight{.storage = storage, .rows = values.size(0), .columns = values.size(1)});
  weight->codes = at::zeros(values.sizes(), at::kByte).to(code_type(storage));
  const int64_t scales = scales_per_row(storage, weight->columns);
  if (scales > 0) weight->scales = at::full({weight->rows, scales}, NAN);
  store(*weight, values);
  return weight;
}

double largest_code(WeightStorage storage) { return storage == WeightStorage::int8 ? 127 : 448; }

// All values of codes, by ATen, in rising order of their size for fp8.
std::vector<double> values_of_codes(WeightStorage storage) {
  const at::Tensor bytes = at::arange(256, at::kLong).to(at::kByte);
  const at::Tensor values = bytes.view(code_type(storage)).to(at::kDouble);
  std::vector<double> out;
  for (int64_t i = 0; i < 256; ++i) {
    const double value = values[i].item<double>();
    if (!std::isnan(value) && std::abs(value) <= largest_code(storage)) out.push_back(value);
  }
  return out;
}

// Every scale is that of its block's largest value, and no other code is nearer to x.
void check_codes(const at::Tensor& values, WeightStorage storage) {
  const auto weight = stored(values, storage);
  const at::Tensor restored_values = restored({weight}, at::kFloat);
  const std::vector<double> candidates = values_of_codes(storage);
  const at::Tensor codes = weight->codes.to(at::kDouble);
  for (int64_t row = 0; row < values.size(0); ++row) {
    for (int64_t first = 0; first < values.size(1); first += 64) {
      const at::Tensor x = values[row].slice(0, first, first + 64).to(at::kDouble);
      const double scale = weight->scales[row][first / 64].item<double>();
      const double wanted = std::max(x.abs().max().item<double>() / largest_code(storage),
                                     double{std::numeric_limits<float>::min()});
      ASSERT_LE(std::abs(scale - wanted), wanted * 0x1p-24) << row << ", " << first;
      for (int64_t i = 0; i < x.size(0); ++i) {
        const double exact = x[i].item<double>();
        const double code = codes[row][first + i].item<double>();
        const double off = std::abs(exact - code * scale);
        for (const double other : candidates)
          ASSERT_LE(off, std::abs(exact - other * scale)) << exact << " of scale " << scale;
        if (storage == WeightStorage::int8) {
          ASSERT_LE(off, scale * (0.5 + 0x1p-17));
        }
        ASSERT_EQ(restored_values[row][first + i].item<float>(), static_cast<float>(code * scale));
      }
    }
  }
}

TEST(StoredWeight, CodesAreTheNearestToTheValues) {
  for (const WeightStorage storage : kScaled) {
    for (const int64_t columns : {1, 63, 64, 65, 130})
      check_codes(random_tensor({3, columns}, columns), storage);
    at::Tensor mixed = random_tensor({4, 129}, 1);
    mixed.slice(1, 0, 64).mul_(1e-6);
    mixed[1].slice(0, 64, 128).zero_();
    mixed[2].mul_(1e30);
    mixed[3].mul_(1e-41);  // scales end at the smallest normal number
    check_codes(mixed, storage);
    EXPECT_TRUE(
        restored({stored(at::zeros({2, 70}), storage)}, at::kFloat).eq(0).all().item<bool>());
  }
}

TEST(StoredWeight, HalfwayGoesToTheEvenCode) {
  const at::Tensor whole = at::tensor({127.0F, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 126.5F, -127.0F});
  EXPECT_TRUE(at::equal(restored({stored(whole.unsqueeze(0), WeightStorage::int8)}, at::kFloat)[0],
                        at::tensor({127.0F, 0.0F, 2.0F, 2.0F, 0.0F, -2.0F, 126.0F, -127.0F})));
  // Spacing 2 from 16, 32 from 256, 2^-9 below 2^-6, where the numbers are subnormal.
  const at::Tensor small =
      at::tensor({448.0F, 17.0F, 19.0F, -17.0F, 272.0F, 432.0F, 0x1p-10F, 0x3p-10F, 0x1Fp-11F});
  EXPECT_TRUE(at::equal(
      restored({stored(small.unsqueeze(0), WeightStorage::fp8)}, at::kFloat)[0],
      at::tensor({448.0F, 16.0F, 20.0F, -16.0F, 256.0F, 448.0F, 0.0F, 0x2p-9F, 0x1p-6F})));
}

TEST(StoredWeight, EveryCodeSurvives) {
  for (const WeightStorage storage : kScaled) {
    std::vector<double> all = values_of_codes(storage);
    const auto most = static_cast<float>(largest_code(storage));
    at::Tensor values = at::full({static_cast<int64_t>(all.size()), 2}, most);  // so scales are 1
    for (size_t i = 0; i < all.size(); ++i) values[static_cast<int64_t>(i)][0] = all[i];
    EXPECT_TRUE(at::equal(restored({stored(values, storage)}, at::kFloat), values));
  }
}

TEST(StoredWeight, BytesAreAsStated) {
  const at::Tensor values = random_tensor({8, 640}, 1);
  const auto bytes = [&](WeightStorage storage) {
    const auto weight = stored(values, storage);
    return weight->codes.nbytes() + (weight->scales.defined() ? weight->scales.nbytes() : 0);
  };
  EXPECT_EQ(bytes(WeightStorage::fp32), values.nbytes());
  EXPECT_EQ(bytes(WeightStorage::bf16), values.nbytes() / 2);
  EXPECT_EQ(bytes(WeightStorage::fp8), values.nbytes() / 4 + 8 * 10 * 4);
  EXPECT_EQ(bytes(WeightStorage::int8), values.nbytes() / 4 + 8 * 10 * 4);
}

TEST(StoredWeight, OnlyFiniteValuesAreStorable) {
  at::Tensor values = random_tensor({3, 5}, 1);
  EXPECT_TRUE(is_storable(values));
  for (const float bad : {NAN, INFINITY, -INFINITY, 3e38F}) {
    values[1][2] = bad;
    EXPECT_FALSE(is_storable(values)) << bad;
  }
}

// Plain values, and those that plain layers would have.
TEST(StoredWeight, RestoresSeveralAsOne) {
  const std::vector<at::Tensor> values{random_tensor({3, 70}, 1), random_tensor({5, 70}, 2),
                                       random_tensor({2, 70}, 3)};
  for (const WeightStorage storage : kStorages) {
    StoredWeights weights;
    std::vector<at::Tensor> alone;
    for (const at::Tensor& part : values) {
      weights.push_back(stored(part, storage));
      alone.push_back(restored({weights.back()}, at::kFloat));
    }
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
      EXPECT_TRUE(same_bits(restored(weights, type), at::cat(alone).to(type)));
      EXPECT_TRUE(same_bits(restored({weights[1]}, type), alone[1].to(type)));
    }
    if (storage == WeightStorage::fp32) {
      EXPECT_TRUE(at::equal(alone[0], values[0]));
    }
    if (storage == WeightStorage::bf16) {
      EXPECT_TRUE(at::equal(alone[0], values[0].to(at::kBFloat16).to(at::kFloat)));
    }
  }
}

TEST(StoredWeight, ProductsAreThoseOfRestoredWeights) {
  for (const WeightStorage storage : kStorages) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
      for (const int64_t count : {1, 2, 3}) {
        StoredWeights weights;
        for (int64_t i = 0; i < count; ++i)
          weights.push_back(stored(random_tensor({6, 70}, 10 + i), storage));
        for (const at::Tensor& bias : {at::Tensor(), random_tensor({6 * count}, 4).to(type)}) {
          at::Tensor x = random_tensor({2, 5, 70}, 1).to(type).requires_grad_(true);
          at::Tensor y = x.detach().clone().requires_grad_(true);
          const at::Tensor found = project(x, weights, bias);
          const at::Tensor want = project(y, restored(weights, type), bias);
          EXPECT_TRUE(same_bits(found, want));
          const at::Tensor gradient = random_tensor(found.sizes(), 5).to(type);
          found.backward(gradient);
          want.backward(gradient);
          EXPECT_TRUE(same_bits(x.grad(), y.grad()));
        }
      }
    }
  }
}

TEST(StoredWeight, GradientsMatchCentralDifferences) {
  const StoredWeights weights{stored(random_tensor({6, 70}, 1), WeightStorage::int8),
                              stored(random_tensor({4, 70}, 2), WeightStorage::int8)};
  EXPECT_TRUE(gradients_match(
      [&](const std::vector<at::Tensor>& in) { return project(in[0], weights).square(); },
      {random_tensor({3, 70}, 3, at::kDouble)}));
}

// Neither what was restored nor x.
TEST(StoredWeight, TheGraphHoldsNothingBeside) {
  const Counting counting;
  const auto weight = stored(random_tensor({256, 256}, 1), WeightStorage::int8);
  at::Tensor leaf = random_tensor({4, 256}, 2).requires_grad_(true);
  const int64_t before = CountingAllocator::held;
  const at::Tensor out = project(leaf * 2, {weight});
  EXPECT_EQ(CountingAllocator::held - before, static_cast<int64_t>(out.nbytes()));
  out.sum().backward();
  EXPECT_LE(CountingAllocator::held - before, static_cast<int64_t>(3 * out.nbytes()));
}

TEST(StoredWeight, NamesOfStorages) {
  for (const auto& [name, storage] : {std::pair{"fp32", WeightStorage::fp32},
                                      {"bf16", WeightStorage::bf16},
                                      {"fp8", WeightStorage::fp8},
                                      {"int8", WeightStorage::int8}}) {
    EXPECT_EQ(parse_weight_storage(name), storage);
    EXPECT_EQ(in_words(storage).find(name), 0U);
  }
  EXPECT_THROW(parse_weight_storage("int4"), ConfigError);
}

}  // namespace
}  // namespace pendulum
