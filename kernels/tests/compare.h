// Buffers that notice stray writes, random values, and comparisons that NaN fails.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace pendulum::kernels {

// An output: NaN until written, with sentinels before and after that must survive.
template <class T>
class Output {
 public:
  explicit Output(int64_t count)
      : values_(static_cast<size_t>(count + 2 * kGuard), std::numeric_limits<T>::quiet_NaN()) {
    for (int64_t i = 0; i < kGuard; ++i) values_[i] = values_[values_.size() - 1 - i] = kSentinel;
  }
  T* data() { return values_.data() + kGuard; }
  std::vector<T> values() const {
    for (int64_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(values_[i], kSentinel) << "written " << kGuard - i << " before the buffer";
      EXPECT_EQ(values_[values_.size() - 1 - i], kSentinel) << "written behind the buffer";
    }
    return {values_.begin() + kGuard, values_.end() - kGuard};
  }

 private:
  static constexpr int64_t kGuard = 16;
  static constexpr T kSentinel = T(12345);
  std::vector<T> values_;
};

// `count` numbers in (-1, 1), scaled and shifted, the same for every T: fp32 values also in a
// vector of doubles.
template <class T>
std::vector<T> random_values(int64_t count, uint64_t seed, double scale = 1, double shift = 0) {
  std::vector<T> out;
  uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const double unit = static_cast<double>(state >> 11) * 0x1p-52 - 1;
    out.push_back(static_cast<T>(static_cast<float>(shift + scale * unit)));
  }
  return out;
}

template <class A, class B>
double worst_error(const std::vector<A>& actual, const std::vector<B>& expected) {
  double worst = actual.size() == expected.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const double error =
        std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    if (!(error <= worst))
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
  }
  return worst;
}

// The twin may be twice as far from the exact result as plain loops in the same type are, plus 4
// roundings of the largest value: other orders of summation have other errors, but not larger ones.
inline ::testing::AssertionResult as_good_as(const std::vector<float>& actual,
                                             const std::vector<float>& plain,
                                             const std::vector<double>& exact) {
  double largest = 0;
  for (const double v : exact) largest = std::max(largest, std::abs(v));
  const double bound = 2 * worst_error(plain, exact) + 4 * 0x1p-23 * largest;
  const double error = worst_error(actual, exact);
  if (error <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "error " << error << " above the bound " << bound;
}

}  // namespace pendulum::kernels
