// The 256 numbers that a byte stands for where an optimiser's moments are kept in 8 bits.
//
// Dynamic quantisation after Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (arXiv
// 2110.02861): leading zero bits count decades below 1, a bit that is set ends them, and what is
// left divides (0.1, 1) of the decade evenly. So large numbers of a block have two digits, and
// small ones still a magnitude. Bytes rise with their numbers.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/host_device.h"

namespace pendulum::kernels {

inline constexpr int kCodes = 256;
inline constexpr int64_t kQuantBlock = 256;  // neighbouring numbers that share a scale

// Device code may use the constants, but not call what they come from.
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kMostFloat = std::numeric_limits<float>::max();
inline constexpr float kLeastFloat = std::numeric_limits<float>::min();  // that divides exactly

inline constexpr int kDecades = 8;  // the last stands for 1 alone

struct DynamicMap {
  float values[kCodes];  // in [-1, 1], rising
  // By decade: what is larger than `above`, and not than the next one's, is nearest to one of its
  // `parts` evenly spaced numbers: x to number x * per_one - parts / 9, rounded down.
  float above[kDecades + 1], per_one[kDecades], parts[kDecades];
  int zero;   // the byte of 0
  int spare;  // a decade begins with number parts - spare above 0
};

// With a sign: 127 numbers on each side of 0, and 1. Without: 254 between 0 and 1, and these two.
constexpr DynamicMap dynamic_map(bool has_sign) {
  DynamicMap map{};
  map.zero = has_sign ? kCodes / 2 - 1 : 0;
  map.spare = has_sign ? 0 : 1;
  int code = map.zero;
  double below = 1e6;  // from here down to 1 powers of ten are whole numbers, and exact
  for (int i = 0; i < kDecades; ++i, below /= 10) {
    // Each has twice the numbers of the one before, so it has as many as lie between it and 0.
    const int parts = has_sign ? 1 << i : 2 << i;
    const bool is_one = i + 1 == kDecades;
    const double smallest = is_one ? 1 : (0.1 + 0.45 / parts) / below;
    const double border = (static_cast<double>(map.values[code]) + smallest) / 2;
    map.above[i] = static_cast<float>(border);
    map.per_one[i] = is_one ? 0 : static_cast<float>(below * parts / 0.9);
    map.parts[i] = static_cast<float>(parts);
    for (int part = 0; part < (is_one ? 1 : parts); ++part)
      map.values[++code] = static_cast<float>(smallest + 0.9 * part / parts / below);
  }
  map.above[kDecades] = kInfinity;
  for (int i = 0; i < map.zero; ++i) map.values[i] = -map.values[2 * map.zero - i];
  // A second moment above zero never becomes zero: the first moment, whose numbers reach further
  // down than squares do, would be divided by eps alone.
  if (!has_sign) map.above[0] = 0;
  return map;
}

inline constexpr DynamicMap kFirstMap = dynamic_map(true);    // of first moments
inline constexpr DynamicMap kSecondMap = dynamic_map(false);  // of second moments

// The byte of the number nearest to x in [-1, 1]; at the middle between two, rounding decides, and
// the product is not rounded, so that every compiler and device decides alike.
PENDULUM_HOST_DEVICE inline int nearest_code(const DynamicMap& map, float x) {
  const float size = x < 0 ? -x : x;
  float per_one = 0;
  float parts = static_cast<float>(map.spare);
  for (int i = 0; i < kDecades; ++i) {
    const bool is_above = size > map.above[i];
    per_one = is_above ? map.per_one[i] : per_one;
    parts = is_above ? map.parts[i] : parts;
  }
  const float part = fmaf(size, per_one, -(parts * (1.0F / 9)));
  const float inside = part < parts - 1 ? part : parts - 1;
  const int steps = static_cast<int>(parts) - map.spare + static_cast<int>(inside > 0 ? inside : 0);
  const int below = steps < map.zero ? map.zero - steps : 0;
  return x < 0 ? below : map.zero + steps;
}

// What a moment counts as beside the others of its block: one that is no number must not take them
// with it.
PENDULUM_HOST_DEVICE inline float finite_part(float x) {
  const float bounded = x > kMostFloat ? kMostFloat : x < -kMostFloat ? -kMostFloat : x;
  return bounded == bounded ? bounded : 0.0F;  // NaN alone differs from itself
}

// A block's scale: its largest magnitude, or 0 where that is too small to divide by exactly.
PENDULUM_HOST_DEVICE inline float scale_of(float largest) {
  return largest < kLeastFloat ? 0.0F : largest;
}

// By what a block of this scale is divided: with infinity all of it becomes 0.
PENDULUM_HOST_DEVICE inline float divisor_of(float scale) { return scale > 0 ? scale : kInfinity; }

}  // namespace pendulum::kernels
