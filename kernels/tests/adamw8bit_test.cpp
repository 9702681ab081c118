// AdamW with moments in 8 bits: the map, the rounding, and steps against the textbook in fp64.
#include "kernels/adamw8bit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <set>
#include <thread>

#include "compare.h"

namespace pendulum::kernels {
namespace {

constexpr double kEps = 0x1p-24;  // of rounding to fp32

// The number of 7 (or 8) bits as the paper draws them: zeros count decades, the first bit that is
// set ends them, the bits behind it are a fraction.
double number_of_bits(uint8_t bits, int width) {
  const int zeros = std::countl_zero(bits) - (8 - width);
  const int parts = 1 << (width - 1 - zeros);
  const double fraction = (bits % parts + 0.5) / parts;
  return std::pow(10.0, -zeros) * (0.1 + 0.9 * fraction);
}

TEST(DynamicMap, IsThatOfThePaper) {
  for (int bits = 1; bits < 128; ++bits) {
    const double want = number_of_bits(static_cast<uint8_t>(bits), 7);
    EXPECT_NEAR(kFirstMap.values[127 + bits] / want, 1, kEps) << bits;
    EXPECT_NEAR(kFirstMap.values[127 - bits] / want, -1, kEps) << bits;
  }
  // Without a sign the smallest decade has two numbers, not the one that its single byte names:
  // that byte is 1's.
  for (int bits = 2; bits < 256; ++bits) {
    const double want = number_of_bits(static_cast<uint8_t>(bits), 8);
    EXPECT_NEAR(kSecondMap.values[bits - 1] / want, 1, kEps) << bits;
  }
}

TEST(DynamicMap, RisesThroughZeroToOne) {
  for (const DynamicMap& map : {kFirstMap, kSecondMap}) {
    const std::set<float> distinct(map.values, map.values + kCodes);
    EXPECT_EQ(distinct.size(), 256u);
    EXPECT_TRUE(std::is_sorted(map.values, map.values + kCodes));
    EXPECT_EQ(map.values[map.zero], 0.0F);
    EXPECT_EQ(map.values[255], 1.0F);
  }
  EXPECT_EQ(kFirstMap.zero, 127);
  EXPECT_EQ(kSecondMap.zero, 0);
}

// Numbers over nine decades, as moments are.
std::vector<float> wide_values(int64_t count, uint64_t seed, bool has_sign) {
  const auto exponents = random_values<double>(count, seed, 4.5, -4.5);
  auto x = random_values<float>(count, seed + 1);
  for (int64_t i = 0; i < count; ++i) {
    x[i] *= static_cast<float>(std::pow(10.0, exponents[i]));
    if (!has_sign) x[i] = std::abs(x[i]);
  }
  return x;
}

// The byte nearest to x of the scale, by looking at all; a second moment above zero has none of
// zero. Its distance from the border to the next says whether rounding may decide.
struct Nearest {
  int code = 0;
  double to_border = 0;
};
Nearest nearest_of_all(double x, const DynamicMap& map) {
  const int first = map.zero == 0 && x > 0 ? 1 : 0;
  Nearest out{first, 1};
  for (int c = first; c < kCodes; ++c) {
    if (std::abs(map.values[c] - x) < std::abs(map.values[out.code] - x)) out.code = c;
    if (c == first) continue;
    const double border = (static_cast<double>(map.values[c]) + map.values[c - 1]) / 2;
    out.to_border = std::min(out.to_border, std::abs(border - x));
  }
  return out;
}

TEST(Quantise, RoundsToTheNearest) {
  for (const DynamicMap& map : {kFirstMap, kSecondMap}) {
    for (const int64_t count : {1, 2, 37, 255, 256}) {
      const auto x = wide_values(count, 5 * count, map.zero > 0);
      std::vector<uint8_t> codes(count);
      Output<float> back(count);
      const float scale = quantise(codes.data(), x.data(), count, map);
      float largest = 0;
      for (const float v : x) largest = std::max(largest, std::abs(v));
      EXPECT_EQ(scale, largest);
      dequantise(back.data(), codes.data(), scale, count, map);
      const auto values = back.values();
      for (int64_t i = 0; i < count; ++i) {
        const double share = x[i] / static_cast<double>(scale);
        const Nearest want = nearest_of_all(share, map);
        // The quotient, what it is multiplied by and the product are rounded.
        if (want.to_border > 8 * kEps * std::abs(share)) {
          EXPECT_EQ(codes[i], want.code) << x[i];
        }
        EXPECT_EQ(values[i], map.values[codes[i]] * scale);
        // Half the gap between the numbers around it.
        const int c = want.code;
        const double below = c > 0 ? map.values[c] - map.values[c - 1] : 0.0142;
        const double above = c < 255 ? map.values[c + 1] - map.values[c] : 0;
        const double half_gap = std::max(below, above) / 2;
        EXPECT_LE(std::abs(values[i] - x[i]), scale * (half_gap + 4 * kEps)) << x[i];
      }
    }
  }
}

TEST(Quantise, IsExactWhereTheMapIs) {
  for (const DynamicMap& map : {kFirstMap, kSecondMap}) {
    std::vector<uint8_t> codes(kCodes);
    EXPECT_EQ(quantise(codes.data(), map.values, kCodes, map), 1.0F);
    for (int c = 0; c < kCodes; ++c) EXPECT_EQ(codes[c], c);
  }
}

// Sizes in [0, 1]: 200 neighbours of every middle between two numbers, among them the middles
// themselves, and every 997th float.
std::vector<float> dense_sizes(const DynamicMap& map) {
  std::vector<float> sizes;
  for (int c = map.zero; c + 1 < kCodes; ++c) {
    const auto middle = std::bit_cast<int32_t>((map.values[c] + map.values[c + 1]) / 2);
    for (int32_t bits = middle - 100; bits <= middle + 100; ++bits)
      sizes.push_back(std::bit_cast<float>(std::min(bits, 0x3F800000)));
  }
  for (int32_t bits = 0; bits <= 0x3F800000; bits += 997)
    sizes.push_back(std::bit_cast<float>(bits));
  return sizes;
}

// The vectors of the CPU against the comparison with every decade, which is also the GPU's.
TEST(Quantise, FindsTheSameCodesAsOneByOne) {
  for (const DynamicMap& map : {kFirstMap, kSecondMap}) {
    const std::vector<float> sizes = dense_sizes(map);
    for (const float sign : {1.0F, -1.0F}) {
      int64_t differing = 0;
      // Blocks of changing lengths, each with a 1, so that a number is its own share of the scale.
      for (size_t begin = 0, length = 1; begin < sizes.size(); begin += length) {
        length = std::min(sizes.size() - begin, length % 255 + 1);
        std::vector<float> x{1.0F};
        for (size_t i = 0; i < length; ++i) x.push_back(sign * sizes[begin + i]);
        std::vector<uint8_t> codes(x.size());
        ASSERT_EQ(quantise(codes.data(), x.data(), static_cast<int64_t>(x.size()), map), 1.0F);
        for (size_t i = 0; i < x.size(); ++i) differing += codes[i] != nearest_code(map, x[i]);
      }
      EXPECT_EQ(differing, 0) << "of " << sizes.size();
    }
  }
}

TEST(Quantise, HasAFiniteScaleWhateverComes) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kMost = std::numeric_limits<float>::max();
  std::vector<uint8_t> codes(4);
  const auto scale = [&](const std::vector<float>& x, const DynamicMap& map) {
    return quantise(codes.data(), x.data(), 4, map);
  };
  EXPECT_EQ(scale({kNaN, 0.5F, -2.0F, 0}, kFirstMap), 2.0F);
  EXPECT_EQ(codes[0], 127);
  EXPECT_EQ(codes[1], nearest_of_all(0.25, kFirstMap).code);
  EXPECT_EQ(scale({kInfinity, 1, 0, kNaN}, kSecondMap), kMost);
  EXPECT_EQ(codes, (std::vector<uint8_t>{255, 1, 0, 0}));
  EXPECT_EQ(scale({-kInfinity, kInfinity, 0, 0}, kFirstMap), kMost);
  EXPECT_EQ(codes, (std::vector<uint8_t>{0, 255, 127, 127}));
  for (const float none : {0.0F, -0.0F, 1e-40F, kNaN}) {
    EXPECT_EQ(scale({none, none, 0, none}, kFirstMap), 0.0F);
    EXPECT_EQ(codes, (std::vector<uint8_t>{127, 127, 127, 127}));
  }
}

// A tensor with its state, fresh as an optimiser makes it.
struct State {
  State(int64_t count, uint64_t seed)
      : p(random_values<float>(count, seed)),
        a(p),
        first(count, kFirstMap.zero),
        second(count, kSecondMap.zero),
        first_scale((count + kQuantBlock - 1) / kQuantBlock),
        second_scale(first_scale) {}
  AdamW8bitTensor tensor(const std::vector<float>& gradient, double decay, bool has_average) {
    return {.parameter = p.data(),
            .gradient = gradient.data(),
            .first = first.data(),
            .second = second.data(),
            .first_scale = first_scale.data(),
            .second_scale = second_scale.data(),
            .average = has_average ? a.data() : nullptr,
            .count = static_cast<int64_t>(p.size()),
            .decay = decay};
  }
  bool operator==(const State&) const = default;
  std::vector<float> p, a;
  std::vector<uint8_t> first, second;
  std::vector<float> first_scale, second_scale;
};

// New bytes and scale of one block against exact moments.
void expect_moments(const std::vector<double>& want, const uint8_t* codes, float scale,
                    const DynamicMap& map) {
  double largest = 0;
  for (const double x : want) largest = std::max(largest, std::abs(x));
  EXPECT_LE(std::abs(scale - largest), 4 * kEps * largest);
  for (size_t i = 0; i < want.size(); ++i) {
    const double share = want[i] / largest;
    const Nearest nearest = nearest_of_all(share, map);
    // A few roundings of the moment, of the scale and of the quotient.
    if (nearest.to_border > 24 * kEps * std::abs(share)) {
      EXPECT_EQ(codes[i], nearest.code) << i;
    }
  }
}

TEST(AdamW8bit, EveryStepEqualsTheTextbookOnWhatTheBytesSay) {
  const int64_t count = 3 * kQuantBlock + 37;
  State state(count, 1);
  AdamWStep step{.rate = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .average_decay = 0.9};
  for (step.step = 1; step.step <= 10; ++step.step) {
    const State before = state;
    const auto g = wide_values(count, 100 * step.step, true);
    adamw8bit(state.tensor(g, 0.1, true), step, 0.5, 0, kQuantBlock);
    adamw8bit(state.tensor(g, 0.1, true), step, 0.5, kQuantBlock, count);
    for (int64_t begin = 0; begin < count; begin += kQuantBlock) {
      std::vector<double> ms, vs;
      const int64_t block = begin / kQuantBlock;
      for (int64_t i = begin; i < std::min(begin + kQuantBlock, count); ++i) {
        const double gradient = 0.5 * g[i];
        const double m = 0.9 * kFirstMap.values[before.first[i]] * before.first_scale[block];
        const double v = 0.99 * kSecondMap.values[before.second[i]] * before.second_scale[block];
        ms.push_back(m + 0.1 * gradient);
        vs.push_back(v + 0.01 * gradient * gradient);
        const double m_hat = ms.back() / (1 - std::pow(0.9, step.step));
        const double v_hat = vs.back() / (1 - std::pow(0.99, step.step));
        const double move = 1e-2 * m_hat / (std::sqrt(v_hat) + 1e-8);
        const double p = before.p[i] * (1 - 1e-2 * 0.1) - move;
        // A rounding of the sum, and a dozen of a move whose two terms may cancel.
        const double bound =
            4 * kEps + 16 * kEps * 1e-2 * 0.1 * std::abs(gradient) / (std::sqrt(v_hat) + 1e-8) +
            16 * kEps * std::abs(move);
        EXPECT_LE(std::abs(state.p[i] - p), bound) << i;
        EXPECT_LE(std::abs(state.a[i] - (0.9 * before.a[i] + 0.1 * p)), bound + 4 * kEps) << i;
      }
      expect_moments(ms, state.first.data() + begin, state.first_scale[block], kFirstMap);
      expect_moments(vs, state.second.data() + begin, state.second_scale[block], kSecondMap);
    }
  }
}

TEST(AdamW8bit, ZeroGradientAndNoDecayChangeNothing) {
  State state(300, 1);
  const State before = state;
  adamw8bit(state.tensor(std::vector<float>(300), 0, true), AdamWStep{}, 1, 0, 300);
  EXPECT_EQ(state, before);
}

TEST(AdamW8bit, NotANumberInTheGradientShowsInTheParameterAlone) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    State state(2 * kQuantBlock, 1), clean(2 * kQuantBlock, 1);
    auto g = random_values<float>(2 * kQuantBlock, 2);
    g[3] = 0;
    adamw8bit(clean.tensor(g, 0, false), AdamWStep{}, 1, 0, 2 * kQuantBlock);
    g[3] = bad;
    adamw8bit(state.tensor(g, 0, false), AdamWStep{}, 1, 0, 2 * kQuantBlock);
    EXPECT_TRUE(std::isnan(state.p[3]));
    state.p[3] = clean.p[3];
    EXPECT_EQ(state.p, clean.p);
    for (const auto& scales : {state.first_scale, state.second_scale}) {
      for (const float scale : scales) EXPECT_TRUE(std::isfinite(scale));
    }
    if (std::isnan(bad)) {
      EXPECT_EQ(state, clean);
    }
  }
}

// Elements of a block that differ by six decades, whose squares differ by twelve: small ones must
// not be divided by a second moment that was rounded to zero. AdamW itself moves a parameter by at
// most (1 - b1) / sqrt(1 - b2) = 1 times the rate here; bytes double that at worst, twice.
TEST(AdamW8bit, SmallElementsOfABlockMoveNoFurtherThanLargeOnes) {
  State state(kQuantBlock, 1);
  auto g = random_values<float>(kQuantBlock, 2);
  for (int64_t i = 0; i < kQuantBlock; ++i) g[i] *= static_cast<float>(std::pow(10.0, -(i % 7)));
  AdamWStep step{.rate = 1e-3, .eps = 1e-12};
  for (step.step = 1; step.step <= 40; ++step.step) {
    if (step.step == 20) std::fill(g.begin(), g.end(), 0.0F);
    const State before = state;
    adamw8bit(state.tensor(g, 0, false), step, 1, 0, kQuantBlock);
    EXPECT_LE(worst_error(state.p, before.p), 4e-3) << step.step;
  }
}

// A list, its chunks shared by two threads, is to the bit what its tensors are one by one.
TEST(AdamW8bit, AListIsItsTensorsOneByOne) {
  const std::vector<int64_t> counts{3, 0, kChunk + 5, 1, 2 * kChunk, 300};
  std::vector<State> alone, listed;
  std::vector<std::vector<float>> gradients;
  for (size_t i = 0; i < counts.size(); ++i) {
    alone.emplace_back(counts[i], i);
    gradients.push_back(random_values<float>(counts[i], 9 * i + 1));
  }
  listed = alone;
  const auto chunks = chunks_of(counts);
  const auto middle = static_cast<int64_t>(chunks.size()) / 2;
  for (AdamWStep step{.rate = 0.01}; step.step <= 3; ++step.step) {
    std::vector<AdamW8bitTensor> tensors;
    for (size_t i = 0; i < counts.size(); ++i) {
      const double decay = 0.1 * static_cast<double>(i % 3);
      tensors.push_back(listed[i].tensor(gradients[i], decay, i % 2 == 0));
      adamw8bit(alone[i].tensor(gradients[i], decay, i % 2 == 0), step, 0.5, 0, counts[i]);
    }
    std::thread other([&] {
      adamw8bit(tensors.data(), chunks.data(), step, 0.5, middle,
                static_cast<int64_t>(chunks.size()));
    });
    adamw8bit(tensors.data(), chunks.data(), step, 0.5, 0, middle);
    other.join();
  }
  EXPECT_EQ(listed, alone);
  EXPECT_NE(listed[4].second_scale[0], 0.0F);
}

}  // namespace
}  // namespace pendulum::kernels
