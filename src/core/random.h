// Random numbers that are functions of their key: no generator has state, so order and thread count
// never matter.
#pragma once
#include <cstdint>
#include <vector>

namespace pendulum {

// What a random number is for. A key starts with its purpose; values are part of the file formats,
// never renumber.
enum class Purpose : uint64_t {
  phase = 1,
  swing = 2,
  order = 3,
  replace = 4,
  weights = 5,
  noise = 6,
  timestep = 7,
  caption_dropout = 8,
  caption_choice = 9,
  generate = 10,
  validation = 11,
  synthesis = 12,
  posterior = 13,
  first_frame = 14,
};

inline constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;  // floor(2^64 (sqrt(5) - 1) / 2), odd

inline uint64_t splitmix64(uint64_t x) {
  x += kGolden;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// A 64-bit random number that is a function of its words: fold each word in, mix after each.
template <class... Words>
uint64_t draw(Words... words) {
  uint64_t h = 0;
  ((h = splitmix64(h ^ static_cast<uint64_t>(words))), ...);
  return h;
}

// Maps 64 random bits into the open interval (0, 1).
inline double uniform(uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

__extension__ using uint128 =
    unsigned __int128;  // GCC and Clang; thresholds of the plan need 65 bits and more

// Index in 0..n-1, floor(bits * n / 2^64).
inline uint64_t below(uint64_t n, uint64_t bits) {
  return static_cast<uint64_t>((static_cast<uint128>(bits) * n) >> 64);
}

// One standard normal number, a function of key alone.
double normal(uint64_t key);

// out[i] = a standard normal number that is a function of (key, first + i) alone. fp32, Box-Muller.
void fill_normal(float* out, int64_t count, uint64_t key, int64_t first = 0);

// Fisher-Yates over 0..n-1 from the top; the index for place i is floor(draw(key, i) * (i + 1) /
// 2^64), where key is an already folded prefix (see fold()).
std::vector<int> permutation(int n, uint64_t folded_key);

// The place of i in a pseudo-random permutation of 0..n-1: a 6-round Feistel network with
// cycle-walking.
uint64_t feistel(uint64_t i, uint64_t n, uint64_t key);

// Continues a draw: draw(a, b, c) == fold(draw(a, b), c).
inline uint64_t fold(uint64_t folded, uint64_t word) { return splitmix64(folded ^ word); }

// Names a sample for the random numbers that belong to it: the same noise and time wherever and
// whenever it is drawn.
struct SampleKey {
  uint64_t bucket = 0;  // the bucket's uid
  int64_t ordinal = 0;
};

}  // namespace pendulum
