// AdamW and the gradient norm against the textbook update in fp64.
#include <gtest/gtest.h>

#include "compare.h"
#include "kernels/adamw.h"

namespace pendulum::kernels {
namespace {

// Loshchilov and Hutter, algorithm 2, one element over several steps.
struct TextbookAdamW {
  double p, m = 0, v = 0, a;
  void step(double g, const AdamWStep& s, double decay) {
    m = s.beta1 * m + (1 - s.beta1) * g;
    v = s.beta2 * v + (1 - s.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(s.beta1, static_cast<double>(s.step)));
    const double v_hat = v / (1 - std::pow(s.beta2, static_cast<double>(s.step)));
    p = p - s.rate * decay * p - s.rate * m_hat / (std::sqrt(v_hat) + s.eps);
    a = s.average_decay * a + (1 - s.average_decay) * p;
  }
};

template <class T>
void compare_with_textbook(double bound) {
  const int64_t count = 37;
  auto p = random_values<T>(count, 1);
  std::vector<T> m(count), v(count), a = p;
  std::vector<TextbookAdamW> expected;
  for (const T value : p) expected.push_back({.p = value, .a = value});
  AdamWStep step{.rate = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .average_decay = 0.9};
  for (step.step = 1; step.step <= 10; ++step.step) {
    const auto g = random_values<T>(count, 10 + step.step);
    const AdamWTensor<T> tensor{p.data(), g.data(), m.data(), v.data(), a.data(), count, 0.1};
    adamw(tensor, step, 0.5, 0, 11);
    adamw(tensor, step, 0.5, 11, count);
    for (int64_t i = 0; i < count; ++i) expected[i].step(0.5 * g[i], step, 0.1);
  }
  for (int64_t i = 0; i < count; ++i) {
    EXPECT_LE(std::abs(p[i] - expected[i].p), bound) << i;
    EXPECT_LE(std::abs(a[i] - expected[i].a), bound) << i;
  }
}

// Ten steps of at most 0.01 each around values below 1: a few roundings of 1 per step.
TEST(AdamW, EqualsTheTextbookInDouble) { compare_with_textbook<double>(10 * 4 * 0x1p-52); }
TEST(AdamW, EqualsTheTextbookInFloat) { compare_with_textbook<float>(10 * 4 * 0x1p-23); }

TEST(AdamW, ZeroGradientAndNoDecayChangeNothing) {
  auto p = random_values<float>(9, 1);
  const auto before = p;
  const std::vector<float> g(9);
  std::vector<float> m(9), v(9);
  adamw(AdamWTensor<float>{p.data(), g.data(), m.data(), v.data(), nullptr, 9, 0.0}, AdamWStep{}, 1,
        0, 9);
  EXPECT_EQ(p, before);
}

TEST(AdamW, NotANumberInTheGradientShowsInTheParameter) {
  std::vector<float> p(9, 1.0F), g(9, 1.0F), m(9), v(9);
  g[3] = std::numeric_limits<float>::quiet_NaN();
  adamw(AdamWTensor<float>{p.data(), g.data(), m.data(), v.data(), nullptr, 9, 0.0}, AdamWStep{}, 1,
        0, 9);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(std::isnan(p[i]), i == 3) << i;
}

TEST(SumOfSquares, IsTakenInDouble) {
  // In fp32 the small ones would vanish beside the first: 1e8 + 1000 * 1.
  std::vector<float> x(1001, 1.0F);
  x[0] = 1e4F;
  EXPECT_EQ(sum_of_squares(x.data(), 0, 1001), 1e8 + 1000);
  EXPECT_EQ(sum_of_squares(x.data(), 1, 1001), 1000);
  x[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(sum_of_squares(x.data(), 0, 1001)));
}

}  // namespace
}  // namespace pendulum::kernels
