// Merging of partial attention: against one softmax over all keys, in any order, at any size of the
// scores.
#include "kernels/merge_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "compare.h"

namespace pendulum::kernels {
namespace {

constexpr int64_t kKeys = 11;  // of every row, in three blocks

struct Part {
  std::vector<double> out, log_sum_exp;
};

// Softmax over keys first..last of given scores and values, one row after the other.
template <class T>
Part attend(const std::vector<float>& scores, const std::vector<float>& values,
            const MergeAttentionSizes& s, int64_t first, int64_t last) {
  const int64_t rows = s.batch * s.queries * s.heads;
  Part part{std::vector<double>(rows * s.head_dim), std::vector<double>(rows)};
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row % s.heads, query = row / s.heads % s.queries,
                  batch = row / s.heads / s.queries;
    T largest = -std::numeric_limits<T>::infinity(), sum = 0;
    for (int64_t k = first; k < last; ++k) largest = std::max<T>(largest, scores[row * kKeys + k]);
    for (int64_t k = first; k < last; ++k) sum += std::exp(scores[row * kKeys + k] - largest);
    for (int64_t j = 0; j < s.head_dim; ++j) {
      T out = 0;
      for (int64_t k = first; k < last; ++k) {
        out += std::exp(scores[row * kKeys + k] - largest) / sum *
               values[(row * kKeys + k) * s.head_dim + j];
      }
      part.out[row * s.head_dim + j] = out;
    }
    part.log_sum_exp[(batch * s.heads + head) * s.queries + query] = largest + std::log(sum);
  }
  return part;
}

template <class T>
std::vector<T> as(const std::vector<double>& x) {
  return {x.begin(), x.end()};
}

template <class T>
void expect_whole(double shift, double bound) {
  const std::vector<std::pair<int64_t, int64_t>> blocks{{0, 4}, {4, 5}, {5, kKeys}};
  for (const auto& s :
       std::vector<MergeAttentionSizes>{{1, 1, 1, 1}, {2, 3, 5, 7}, {1, 13, 2, 64}}) {
    const int64_t rows = s.batch * s.queries * s.heads;
    const auto scores = random_values<float>(rows * kKeys, 1, 20, shift);
    const auto values = random_values<float>(rows * kKeys * s.head_dim, 2);
    const Part whole = attend<double>(scores, values, s, 0, kKeys);
    for (const auto& order : std::vector<std::vector<int>>{{0, 1, 2}, {2, 0, 1}}) {
      std::vector<T> merged(rows * s.head_dim, T(0));
      std::vector<T> log_sum_exp(rows, -std::numeric_limits<T>::infinity());
      for (const int block : order) {
        const Part part = attend<T>(scores, values, s, blocks[block].first, blocks[block].second);
        const auto out = as<T>(part.out), statistic = as<T>(part.log_sum_exp);
        merge_attention<T>(merged.data(), log_sum_exp.data(), out.data(), statistic.data(), s, 0,
                           rows / 2);
        merge_attention<T>(merged.data(), log_sum_exp.data(), out.data(), statistic.data(), s,
                           rows / 2, rows);
      }
      EXPECT_LE(worst_error(merged, whole.out), bound) << shift;
      EXPECT_LE(worst_error(log_sum_exp, whole.log_sum_exp), bound) << shift;
    }
  }
}

// Values are below 1. A weight is the exponential of a difference of scores up to 120 and so off by
// 120 eps; three merges and eleven terms of a sum stay below four times that.
TEST(MergeAttention, BlocksGiveTheWhole) {
  for (const double shift : {0.0, 100.0, -100.0}) {
    expect_whole<float>(shift, 4 * 120 * 0x1p-23);
    expect_whole<double>(shift, 4 * 120 * 0x1p-52);
  }
}

TEST(MergeAttention, BlocksWithoutKeysChangeNothing) {
  const MergeAttentionSizes sizes{1, 1, 1, 2};
  const float none = -std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float merged[2] = {3, 4}, statistic = 5;
  const float part[2] = {nan, nan};
  merge_attention<float>(merged, &statistic, part, &none, sizes, 0, 1);
  EXPECT_EQ(merged[0], 3);
  EXPECT_EQ(statistic, 5);
  float empty[2] = {0, 0}, empty_statistic = none;
  merge_attention<float>(empty, &empty_statistic, merged, &statistic, sizes, 0, 1);
  EXPECT_EQ(empty[1], 4);
  EXPECT_EQ(empty_statistic, 5);
  merge_attention<float>(merged, &statistic, part, &nan, sizes, 0, 1);
  EXPECT_TRUE(std::isnan(merged[0]));
  EXPECT_TRUE(std::isnan(statistic));
}

}  // namespace
}  // namespace pendulum::kernels
