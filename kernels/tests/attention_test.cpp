// Attention over few keys and the small matrix product, against plain loops in fp64.
#include <gtest/gtest.h>

#include "attention_reference.h"
#include "compare.h"
#include "kernels/attention.h"
#include "kernels/small_product.h"

namespace pendulum::kernels {
namespace {

std::vector<double> wide(const std::vector<float>& x) { return {x.begin(), x.end()}; }

class AttentionTest : public ::testing::TestWithParam<AttentionSizes> {};

// Blocks of 48 queries, registers of 8 elements, padding to 16 keys: shapes stand on both sides of
// each.
TEST_P(AttentionTest, IsAsGoodAsPlainLoops) {
  const AttentionSizes s = GetParam();
  const int64_t q_count = s.batch * s.queries * s.heads * s.head_dim;
  const int64_t k_count = s.batch * s.keys * s.heads * s.head_dim;
  const auto q = random_values<float>(q_count, 1, 3), k = random_values<float>(k_count, 2, 3);
  const auto v = random_values<float>(k_count, 3), dout = random_values<float>(q_count, 4);
  Output<float> out(q_count), lse(s.batch * s.heads * s.queries);
  Output<float> dq(q_count), dk(k_count), dv(k_count), scratch(attention_scratch(s));
  const int64_t units = s.batch * s.heads;
  for (const auto& [begin, end] : {std::pair{int64_t{0}, units / 2}, std::pair{units / 2, units}})
    attention<float>(dense(out.data(), s.queries, s), lse.data(), dense(q.data(), s.queries, s),
                     dense(k.data(), s.keys, s), dense(v.data(), s.keys, s), scratch.data(), s,
                     begin, end);
  attention_backward<float>(
      dense(dq.data(), s.queries, s), dense(dk.data(), s.keys, s), dense(dv.data(), s.keys, s),
      dense(dout.data(), s.queries, s), dense(q.data(), s.queries, s), dense(k.data(), s.keys, s),
      dense(v.data(), s.keys, s), dense<const float>(out.data(), s.queries, s), lse.data(),
      scratch.data(), s, 0, units);
  scratch.values();  // looks at the sentinels
  const auto plain = plain_attention<float>(q, k, v, dout, s);
  const auto exact = plain_attention<double>(wide(q), wide(k), wide(v), wide(dout), s);
  EXPECT_TRUE(as_good_as(out.values(), plain.out, exact.out));
  EXPECT_TRUE(as_good_as(lse.values(), plain.log_sum_exp, exact.log_sum_exp));
  EXPECT_TRUE(as_good_as(dv.values(), plain.dvalue, exact.dvalue));
  EXPECT_TRUE(as_good_as(dq.values(), plain.dquery, exact.dquery));
  EXPECT_TRUE(as_good_as(dk.values(), plain.dkey, exact.dkey));
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         ::testing::Values(AttentionSizes{1, 1, 1, 1, 2, 0.7},
                                           AttentionSizes{2, 16, 16, 4, 40, 0.158},
                                           AttentionSizes{1, 47, 15, 3, 7, 0.4},
                                           AttentionSizes{2, 49, 17, 1, 18, 0.2},
                                           AttentionSizes{1, 97, 239, 2, 34, 0.2},
                                           AttentionSizes{1, 5, 33, 2, 64, 0.125}));

TEST(Attention, NotANumberReachesOnlyItsQueries) {
  const AttentionSizes s{.batch = 1, .queries = 3, .keys = 5, .heads = 1, .head_dim = 4};
  auto q = random_values<float>(12, 1);
  const auto k = random_values<float>(20, 2);
  q[5] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> out(12), lse(3), scratch(attention_scratch(s));
  attention<float>(dense(out.data(), 3, s), lse.data(), dense<const float>(q.data(), 3, s),
                   dense(k.data(), 5, s), dense(k.data(), 5, s), scratch.data(), s, 0, 1);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(std::isnan(out[i]), i / 4 == 1) << i;
}

// Scores far below zero: the padding's score must not be the largest.
TEST(Attention, LogSumExpFollowsTheScores) {
  const AttentionSizes s{.batch = 1, .queries = 1, .keys = 3, .heads = 1, .head_dim = 1};
  const std::vector<float> q{100}, k{-9, -10, -11}, v{1, 2, 3};
  std::vector<float> out(1), lse(1), scratch(attention_scratch(s));
  attention<float>(dense(out.data(), 1, s), lse.data(), dense(q.data(), 1, s),
                   dense(k.data(), 3, s), dense(v.data(), 3, s), scratch.data(), s, 0, 1);
  EXPECT_EQ(lse[0], -900);
  EXPECT_EQ(out[0], 1);
}

TEST(SmallProduct, EveryRemainder) {
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 13}) {
    for (const int64_t columns : {1, 3, 7, 8, 9, 15, 16, 17, 25}) {
      const int64_t depth = 5, c_row = columns + 3;
      const auto a = random_values<double>(rows * depth, 1);  // column-major
      const auto b = random_values<double>(depth * columns, 2);
      std::vector<double> c(rows * c_row, 1.0);
      small_product<double>(c.data(), c_row, {a.data(), 1, rows}, b.data(), columns, rows, columns,
                            depth, true);
      for (int64_t i = 0; i < rows * c_row; ++i) {
        double expected = 1;
        for (int64_t k = 0; k < depth && i % c_row < columns; ++k)
          expected += a[k * rows + i / c_row] * b[k * columns + i % c_row];
        EXPECT_LE(std::abs(c[i] - expected), 10 * 0x1p-52)
            << rows << " x " << columns << " at " << i;
      }
    }
  }
}

}  // namespace
}  // namespace pendulum::kernels
