// The CPU kernels against plain loops in fp64, over awkward shapes, with guards around every
// output.
#include <gtest/gtest.h>

#include "compare.h"
#include "kernels/bias_gelu.h"
#include "kernels/column_sum.h"
#include "reference.h"

namespace pendulum::kernels {
namespace {

template <class T>
std::vector<T> whole_sums(Output<T>& partial, int64_t groups, int64_t pieces, int64_t dim) {
  Output<T> out(groups * dim);
  partial.values();  // looks at the sentinels
  sum_pieces(out.data(), partial.data(), pieces, dim, 0, groups);
  return out.values();
}

std::vector<double> wide(const std::vector<float>& x) { return {x.begin(), x.end()}; }

// Shapes: 1, primes, a piece of 64 rows less and more one, vector widths less and more one.
class NormModulateTest : public ::testing::TestWithParam<NormModulateSizes> {};

TEST_P(NormModulateTest, IsAsGoodAsPlainLoops) {
  const NormModulateSizes s = GetParam();
  const int64_t rows = s.groups * s.rows;
  const int64_t pieces = pieces_of(s.rows);
  const auto x = random_values<float>(rows * s.dim, 1, 2.0, 0.5);
  const auto scale = random_values<float>(s.groups * s.stride, 2);
  const auto shift = random_values<float>(s.groups * s.stride, 3);
  const auto dout = random_values<float>(rows * s.dim, 4);
  Output<float> out(rows * s.dim), mean(rows), rstd(rows), dx(rows * s.dim);
  Output<float> dscale(s.groups * pieces * s.dim), dshift(s.groups * pieces * s.dim);
  // In two ranges, as two threads would.
  for (const auto& [begin, end] : {std::pair{int64_t{0}, rows / 2}, std::pair{rows / 2, rows}})
    norm_modulate(out.data(), mean.data(), rstd.data(), x.data(), scale.data(), shift.data(), s,
                  begin, end);
  const int64_t units = s.groups * pieces;
  for (const auto& [begin, end] : {std::pair{int64_t{0}, units / 2}, std::pair{units / 2, units}})
    norm_modulate_backward(dx.data(), dscale.data(), dshift.data(), dout.data(), x.data(),
                           mean.data(), rstd.data(), scale.data(), s, begin, end);
  const auto plain = plain_norm_modulate<float>(x, scale, shift, dout, s);
  const auto exact = plain_norm_modulate<double>(wide(x), wide(scale), wide(shift), wide(dout), s);
  EXPECT_TRUE(as_good_as(out.values(), plain.out, exact.out));
  EXPECT_TRUE(as_good_as(dx.values(), plain.dx, exact.dx));
  EXPECT_TRUE(as_good_as(whole_sums(dscale, s.groups, pieces, s.dim), plain.dscale, exact.dscale));
  EXPECT_TRUE(as_good_as(whole_sums(dshift, s.groups, pieces, s.dim), plain.dshift, exact.dshift));
}

INSTANTIATE_TEST_SUITE_P(Shapes, NormModulateTest,
                         ::testing::Values(NormModulateSizes{1, 1, 8, 8, 1e-6, 1},
                                           NormModulateSizes{3, 1, 7, 42, 1e-6, 1},
                                           NormModulateSizes{2, 63, 31, 31, 1e-6, 1},
                                           NormModulateSizes{2, 64, 160, 960, 1e-5, 1},
                                           NormModulateSizes{3, 65, 33, 33, 1e-6, 0},
                                           NormModulateSizes{1, 239, 128, 128, 1e-6, 0}));

TEST(NormModulate, NotANumberStaysWhereItIs) {
  const NormModulateSizes s{.groups = 1, .rows = 2, .dim = 9, .stride = 9};
  auto x = random_values<float>(18, 1);
  x[4] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> zeros(9);
  std::vector<float> out(18), mean(2), rstd(2);
  norm_modulate(out.data(), mean.data(), rstd.data(), x.data(), zeros.data(), zeros.data(), s, 0,
                2);
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(std::isnan(out[i])) << i;
  for (int i = 9; i < 18; ++i) EXPECT_TRUE(std::isfinite(out[i])) << i;
}

TEST(NormModulate, ZeroVarianceGivesTheShift) {
  const NormModulateSizes s{.groups = 1, .rows = 1, .dim = 5, .stride = 5};
  const std::vector<float> x(5, 3.25F);
  const auto shift = random_values<float>(5, 2);
  std::vector<float> out(5), mean(1), rstd(1);
  norm_modulate(out.data(), mean.data(), rstd.data(), x.data(), shift.data(), shift.data(), s, 0,
                1);
  EXPECT_EQ(out, shift);
}

struct RotaryCase {
  QkNormRotarySizes sizes;
  bool rotated;
};

class QkNormRotaryTest : public ::testing::TestWithParam<RotaryCase> {};

TEST_P(QkNormRotaryTest, IsAsGoodAsPlainLoops) {
  const auto& [s, rotated] = GetParam();
  const int64_t dim = s.heads * s.head_dim;
  const int64_t pieces = pieces_of(s.rows);
  const auto x = random_values<float>(s.rows * s.stride, 1, 2.0);
  const auto weight = random_values<float>(dim, 2, 0.5, 1.0);
  const auto dout = random_values<float>(s.rows * dim, 3);
  std::vector<float> cosine, sine;
  for (int64_t i = 0; rotated && i < s.tokens * s.head_dim / 2; ++i) {
    cosine.push_back(std::cos(0.7F * static_cast<float>(i)));
    sine.push_back(std::sin(0.7F * static_cast<float>(i)));
  }
  const float* c = rotated ? cosine.data() : nullptr;
  const float* i = rotated ? sine.data() : nullptr;
  Output<float> out(s.rows * dim), rstd(s.rows), dweight(pieces * dim);
  std::vector<float> dx(s.rows * s.stride, 7.0F);
  qk_norm_rotary(out.data(), rstd.data(), x.data(), weight.data(), c, i, s, 0, s.rows / 3);
  qk_norm_rotary(out.data(), rstd.data(), x.data(), weight.data(), c, i, s, s.rows / 3, s.rows);
  qk_norm_rotary_backward(dx.data(), dweight.data(), dout.data(), x.data(), rstd.data(),
                          weight.data(), c, i, s, 0, pieces);
  std::vector<float> dense;
  for (int64_t row = 0; row < s.rows; ++row) {
    for (int64_t j = 0; j < s.stride; ++j) {
      if (j < dim)
        dense.push_back(dx[row * s.stride + j]);
      else
        EXPECT_EQ(dx[row * s.stride + j], 7.0F) << "the neighbours of the slice were written";
    }
  }
  const auto plain = plain_qk_norm_rotary<float>(x, weight, cosine, sine, dout, s);
  const auto exact =
      plain_qk_norm_rotary<double>(wide(x), wide(weight), wide(cosine), wide(sine), wide(dout), s);
  EXPECT_TRUE(as_good_as(out.values(), plain.out, exact.out));
  EXPECT_TRUE(as_good_as(dense, plain.dx, exact.dx));
  EXPECT_TRUE(as_good_as(whole_sums(dweight, 1, pieces, dim), plain.dweight, exact.dweight));
}

INSTANTIATE_TEST_SUITE_P(Shapes, QkNormRotaryTest,
                         ::testing::Values(RotaryCase{{1, 1, 1, 2, 2, 1e-6}, true},
                                           RotaryCase{{6, 3, 2, 6, 36, 1e-6}, true},
                                           RotaryCase{{63, 21, 4, 40, 480, 1e-5}, true},
                                           RotaryCase{{65, 13, 3, 18, 54, 1e-6}, true},
                                           RotaryCase{{130, 130, 2, 34, 136, 1e-6}, false}));

TEST(QkNormRotary, KeepsTheNormOfEveryPair) {
  const QkNormRotarySizes s{.rows = 5, .tokens = 5, .heads = 3, .head_dim = 14, .stride = 42};
  const auto x = random_values<double>(5 * 42, 1);
  const auto weight = random_values<double>(42, 2, 0.5, 1.0);
  std::vector<double> cosine, sine, turned(5 * 42), straight(5 * 42), rstd(5);
  for (int i = 0; i < 5 * 7; ++i) {
    cosine.push_back(std::cos(i * 1.3));
    sine.push_back(std::sin(i * 1.3));
  }
  qk_norm_rotary(turned.data(), rstd.data(), x.data(), weight.data(), cosine.data(), sine.data(), s,
                 0, 5);
  qk_norm_rotary<double>(straight.data(), rstd.data(), x.data(), weight.data(), nullptr, nullptr, s,
                         0, 5);
  for (int i = 0; i < 5 * 42; i += 2)
    EXPECT_NEAR(std::hypot(turned[i], turned[i + 1]), std::hypot(straight[i], straight[i + 1]),
                1e-14);
}

class GatedResidualTest : public ::testing::TestWithParam<std::pair<GatedResidualSizes, bool>> {};

TEST_P(GatedResidualTest, IsAsGoodAsPlainLoops) {
  const auto& [s, gated] = GetParam();
  const int64_t count = s.groups * s.rows * s.dim;
  const int64_t pieces = pieces_of(s.rows);
  const auto x = random_values<float>(count, 1);
  const auto y = random_values<float>(count, 2);
  const auto bias = random_values<float>(s.dim, 3);
  const auto gate = gated ? random_values<float>(s.groups * s.stride, 4) : std::vector<float>();
  const auto dout = random_values<float>(count, 5);
  Output<float> out(count), dy(count), dgate(s.groups * pieces * s.dim);
  Output<float> dbias(s.groups * pieces * s.dim);
  const float* g = gated ? gate.data() : nullptr;
  gated_residual(out.data(), x.data(), y.data(), bias.data(), g, s, 0, s.groups * s.rows);
  gated_residual_backward(dy.data(), dgate.data(), dbias.data(), dout.data(), y.data(), bias.data(),
                          g, s, 0, s.groups * pieces);
  const auto plain = plain_gated_residual<float>(x, y, bias, gate, dout, s);
  const auto exact =
      plain_gated_residual<double>(wide(x), wide(y), wide(bias), wide(gate), wide(dout), s);
  EXPECT_TRUE(as_good_as(out.values(), plain.out, exact.out));
  EXPECT_TRUE(as_good_as(whole_sums(dbias, 1, s.groups * pieces, s.dim), plain.dbias, exact.dbias));
  if (!gated) return;
  EXPECT_TRUE(as_good_as(dy.values(), plain.dy, exact.dy));
  EXPECT_TRUE(as_good_as(whole_sums(dgate, s.groups, pieces, s.dim), plain.dgate, exact.dgate));
}

INSTANTIATE_TEST_SUITE_P(Shapes, GatedResidualTest,
                         ::testing::Values(std::pair{GatedResidualSizes{1, 1, 1, 1}, true},
                                           std::pair{GatedResidualSizes{5, 1, 7, 42}, true},
                                           std::pair{GatedResidualSizes{2, 65, 33, 33}, true},
                                           std::pair{GatedResidualSizes{3, 64, 160, 960}, true},
                                           std::pair{GatedResidualSizes{1, 131, 17, 0}, false}));

TEST(BiasGelu, IsAsGoodAsPlainLoops) {
  for (const auto& [rows, dim] : {std::pair{1, 1}, {3, 7}, {63, 31}, {65, 640}, {129, 17}}) {
    const auto x = random_values<float>(rows * dim, 1, 8.0);
    const auto bias = random_values<float>(dim, 2);
    const auto dout = random_values<float>(rows * dim, 3);
    const int64_t pieces = pieces_of(rows);
    Output<float> out(rows * dim), dx(rows * dim), dbias(pieces * dim);
    bias_gelu(out.data(), x.data(), bias.data(), dim, 0, rows);
    bias_gelu_backward(dx.data(), dbias.data(), dout.data(), x.data(), bias.data(), rows, dim, 0,
                       pieces);
    const auto plain = plain_bias_gelu<float>(x, bias, dout, dim);
    const auto exact = plain_bias_gelu<double>(wide(x), wide(bias), wide(dout), dim);
    EXPECT_TRUE(as_good_as(out.values(), plain.out, exact.out)) << rows << " x " << dim;
    EXPECT_TRUE(as_good_as(dx.values(), plain.dx, exact.dx)) << rows << " x " << dim;
    EXPECT_TRUE(as_good_as(whole_sums(dbias, 1, pieces, dim), plain.dbias, exact.dbias));
  }
}

TEST(BiasGelu, KeepsItsLimitsAndNotANumber) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x{0, 30, -30, 1e6F, -1e6F, nan}, bias(6);
  std::vector<float> out(6);
  bias_gelu(out.data(), x.data(), bias.data(), 6, 0, 1);
  EXPECT_EQ(out[0], 0.0F);
  EXPECT_EQ(out[1], 30.0F);
  EXPECT_LE(std::abs(out[2]), 1e-30F);
  EXPECT_EQ(out[3], 1e6F);
  EXPECT_LE(std::abs(out[4]), 1e-30F);
  EXPECT_TRUE(std::isnan(out[5]));
}

TEST(ColumnSum, AddsEveryRowOnce) {
  for (const int64_t rows : {1, 3, 63, 64, 65, 239}) {
    const int64_t dim = 19, stride = 23, pieces = pieces_of(rows);
    const auto x = random_values<double>(rows * stride, 5);
    Output<double> partial(pieces * dim);
    column_sum(partial.data(), x.data(), rows, dim, stride, 0, pieces);
    std::vector<double> expected(dim);
    for (int64_t i = 0; i < rows * dim; ++i) expected[i % dim] += x[i / dim * stride + i % dim];
    EXPECT_LE(worst_error(whole_sums(partial, 1, pieces, dim), expected), 239 * 0x1p-52 * 239);
  }
}

}  // namespace
}  // namespace pendulum::kernels
