// AdamW and the gradient norm against the textbook update in fp64.
#include <gtest/gtest.h>

#include <array>

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

TEST(Chunks, CoverEveryElementOnce) {
  const auto chunks = chunks_of({0, 1, kChunk, kChunk + 1, 0, 3 * kChunk - 1});
  const std::vector<std::array<int64_t, 3>> expected{{1, 0, 1},
                                                     {2, 0, kChunk},
                                                     {3, 0, kChunk},
                                                     {3, kChunk, kChunk + 1},
                                                     {5, 0, kChunk},
                                                     {5, kChunk, 2 * kChunk},
                                                     {5, 2 * kChunk, 3 * kChunk - 1}};
  ASSERT_EQ(chunks.size(), expected.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    const std::array<int64_t, 3> found{chunks[i].tensor, chunks[i].begin, chunks[i].end};
    EXPECT_EQ(found, expected[i]) << i;
  }
}

// A list, in one call over its chunks, is to the bit what its tensors are one by one.
TEST(AdamW, AListIsItsTensorsOneByOne) {
  const std::vector<int64_t> counts{3, 0, kChunk + 5, 1, 2 * kChunk};
  std::vector<std::vector<float>> state[2];  // per tensor: parameter, first, second, average
  std::vector<std::vector<float>> gradients;
  std::vector<AdamWTensor<float>> tensors[2];
  for (size_t i = 0; i < counts.size(); ++i) {
    gradients.push_back(random_values<float>(counts[i], 7 * i));
    for (auto& copy : state) {
      for (uint64_t part = 0; part < 4; ++part)
        copy.push_back(random_values<float>(counts[i], 7 * i + 1 + part, 0.5, 0.6));
    }
  }
  for (int copy = 0; copy < 2; ++copy) {
    for (size_t i = 0; i < counts.size(); ++i) {
      const auto part = [&](size_t p) { return state[copy][4 * i + p].data(); };
      tensors[copy].push_back({part(0), gradients[i].data(), part(1), part(2),
                               i % 2 == 0 ? part(3) : nullptr, counts[i], 0.1 * (i % 3)});
    }
  }
  const AdamWStep step{.rate = 0.01, .step = 3};
  for (const AdamWTensor<float>& t : tensors[0]) adamw(t, step, 0.5, 0, t.count);
  const auto chunks = chunks_of(counts);
  const auto middle = static_cast<int64_t>(chunks.size()) / 2;
  adamw(tensors[1].data(), chunks.data(), step, 0.5, 0, middle);
  adamw(tensors[1].data(), chunks.data(), step, 0.5, middle, static_cast<int64_t>(chunks.size()));
  EXPECT_EQ(state[0], state[1]);
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
