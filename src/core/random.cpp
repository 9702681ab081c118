// Normal numbers and permutations out of keyed random bits.
#include "core/random.h"

#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>
#include <tuple>
#include <utility>

namespace pendulum {
namespace {

// A pair of independent normal numbers from 64 bits. 32 bits each are enough for fp32: the tail
// ends at 6.6 sigma.
std::pair<float, float> normal_pair(uint64_t bits) {
  const float u = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
  const float v = static_cast<float>(bits & 0xFFFFFF) * 0x1p-24f;
  const float radius = std::sqrt(-2.0f * std::log(u));
  const float angle = 2.0f * std::numbers::pi_v<float> * v;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace

double normal(uint64_t key) {
  const double radius = std::sqrt(-2.0 * std::log(uniform(key)));
  return radius * std::cos(2.0 * std::numbers::pi * uniform(splitmix64(key)));
}

void fill_normal(float* out, int64_t count, uint64_t key, int64_t first) {
  int64_t i = 0;
  if (count > 0 && (first & 1)) out[i++] = normal_pair(fold(key, first / 2)).second;
  for (; i + 1 < count; i += 2) {
    std::tie(out[i], out[i + 1]) = normal_pair(fold(key, (first + i) / 2));
  }
  if (i < count) out[i] = normal_pair(fold(key, (first + i) / 2)).first;
}

std::vector<int> permutation(int n, uint64_t folded_key) {
  std::vector<int> places(n);
  std::iota(places.begin(), places.end(), 0);
  for (int i = n - 1; i > 0; --i) std::swap(places[i], places[below(i + 1, fold(folded_key, i))]);
  return places;
}

uint64_t feistel(uint64_t i, uint64_t n, uint64_t key) {
  if (n == 1) return 0;
  const int half = (std::bit_width(n - 1) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = i >> half, right = i & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      left = std::exchange(right, left ^ (draw(key, round, right) & mask));
    }
    i = (left << half) | right;
  } while (i >= n);
  return i;
}

}  // namespace pendulum
