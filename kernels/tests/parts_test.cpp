// Heads dealt to the ranks that exchange them: the same numbers as in one piece, elsewhere.
#include <gtest/gtest.h>

#include <algorithm>

#include "compare.h"
#include "kernels/column_sum.h"
#include "kernels/qk_norm_rotary.h"

namespace pendulum::kernels {
namespace {

struct PartsCase {
  QkNormRotarySizes sizes;  // with parts, and gaps between them
  bool rotated;
};

class QkNormRotaryParts : public ::testing::TestWithParam<PartsCase> {
 protected:
  QkNormRotaryParts() : s(GetParam().sizes), whole(s), dim(s.heads * s.head_dim) {
    whole.parts = 1;
    whole.part_stride = 0;
    for (int64_t i = 0; GetParam().rotated && i < s.tokens * s.head_dim / 2; ++i) {
      cosine.push_back(std::cos(0.7 * static_cast<double>(i)));
      sine.push_back(std::sin(0.7 * static_cast<double>(i)));
    }
  }
  const double* c() const { return cosine.empty() ? nullptr : cosine.data(); }
  const double* i() const { return sine.empty() ? nullptr : sine.data(); }
  // What lies between the parts is NaN and stays so.
  int64_t cut_count() const { return s.parts * s.part_stride; }
  std::vector<double> cut(const std::vector<double>& rows) const {
    std::vector<double> out(cut_count(), std::numeric_limits<double>::quiet_NaN());
    for (int64_t row = 0; row < s.rows; ++row) {
      for (int64_t j = 0; j < dim; ++j)
        out[j / s.part_dim() * s.part_stride + row * s.part_dim() + j % s.part_dim()] =
            rows[row * dim + j];
    }
    return out;
  }
  static bool same(const std::vector<double>& a, const std::vector<double>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](double x, double y) {
      return x == y || (std::isnan(x) && std::isnan(y));
    });
  }

  const QkNormRotarySizes s;
  QkNormRotarySizes whole;
  const int64_t dim;
  std::vector<double> cosine, sine;
};

TEST_P(QkNormRotaryParts, NormedAndTurned) {
  const auto x = random_values<double>(s.rows * s.stride, 1, 2.0);
  const auto weight = random_values<double>(dim, 2, 0.5, 1.0);
  const auto dout = random_values<double>(s.rows * dim, 3);
  const int64_t pieces = pieces_of(s.rows);
  std::vector<double> expected(s.rows * dim), expected_rstd(s.rows), expected_dx(s.rows * s.stride),
      expected_dweight(pieces * dim);
  qk_norm_rotary(expected.data(), expected_rstd.data(), x.data(), weight.data(), c(), i(), whole, 0,
                 s.rows);
  qk_norm_rotary_backward(expected_dx.data(), expected_dweight.data(), dout.data(), x.data(),
                          expected_rstd.data(), weight.data(), c(), i(), whole, 0, pieces);

  Output<double> out(cut_count()), rstd(s.rows), dweight(pieces * dim);
  std::vector<double> dx(s.rows * s.stride);
  qk_norm_rotary(out.data(), rstd.data(), x.data(), weight.data(), c(), i(), s, 0, s.rows / 2);
  qk_norm_rotary(out.data(), rstd.data(), x.data(), weight.data(), c(), i(), s, s.rows / 2, s.rows);
  const auto cut_dout = cut(dout);
  qk_norm_rotary_backward(dx.data(), dweight.data(), cut_dout.data(), x.data(), rstd.data(),
                          weight.data(), c(), i(), s, 0, pieces);
  EXPECT_TRUE(same(out.values(), cut(expected)));
  EXPECT_EQ(rstd.values(), expected_rstd);
  EXPECT_EQ(dx, expected_dx);
  EXPECT_EQ(dweight.values(), expected_dweight);
}

// Without a weight the numbers pass through, both ways.
TEST_P(QkNormRotaryParts, Values) {
  const auto x = random_values<double>(s.rows * s.stride, 1, 2.0);
  std::vector<double> rows;
  for (int64_t row = 0; row < s.rows; ++row)
    rows.insert(rows.end(), &x[row * s.stride], &x[row * s.stride] + dim);
  Output<double> out(cut_count());
  qk_norm_rotary<double>(out.data(), nullptr, x.data(), nullptr, c(), i(), s, 0, s.rows);
  EXPECT_TRUE(same(out.values(), cut(rows)));
  std::vector<double> dx(x);
  const auto dout = cut(random_values<double>(s.rows * dim, 3));
  qk_norm_rotary_backward<double>(dx.data(), nullptr, dout.data(), x.data(), nullptr, nullptr, c(),
                                  i(), s, 0, pieces_of(s.rows));
  std::vector<double> dense;
  for (int64_t row = 0; row < s.rows; ++row) {
    dense.insert(dense.end(), &dx[row * s.stride], &dx[row * s.stride] + dim);
    EXPECT_TRUE(std::equal(&dx[row * s.stride] + dim, &dx[row * s.stride] + s.stride,
                           &x[row * s.stride] + dim))
        << "the neighbours of the slice were written";
  }
  EXPECT_EQ(dense, random_values<double>(s.rows * dim, 3));
}

// rows, tokens, heads, head_dim, stride, eps, parts, part_stride
INSTANTIATE_TEST_SUITE_P(Shapes, QkNormRotaryParts,
                         ::testing::Values(PartsCase{{1, 1, 2, 2, 4, 1e-6, 2, 2}, true},
                                           PartsCase{{6, 3, 6, 6, 108, 1e-6, 3, 80}, true},
                                           PartsCase{{65, 13, 4, 18, 216, 1e-6, 4, 65 * 18}, true},
                                           PartsCase{{63, 63, 4, 8, 33, 1e-6, 2, 1024}, false},
                                           PartsCase{{5, 5, 3, 4, 12, 1e-6, 1, 60}, true}));

}  // namespace
}  // namespace pendulum::kernels
