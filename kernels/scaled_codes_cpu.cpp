// Codes of 8 bits with scales on the CPU. Codes are chosen in fp64, where x / scale is not rounded
// across a border between two of them.
#include "kernels/scaled_codes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace pendulum::kernels {
namespace {

constexpr float largest(int8_t) { return 127; }
constexpr float largest(e4m3) { return 448; }

void encode_one(int8_t& code, double x) {
  code = static_cast<int8_t>(std::clamp(std::nearbyint(x), -127.0, 127.0));
}

// Bits: sign, 4 of the exponent with bias 7, 3 of the mantissa. In steps of the exponent's spacing
// a normal number is 8 to 15 of them, and 16 are the first of the next exponent; below 2^-6 the
// spacing stays.
void encode_one(e4m3& code, double x) {
  const double size = std::abs(x);
  const int exponent = std::max(static_cast<int>(std::bit_cast<uint64_t>(size) >> 52) - 1023, -6);
  const auto per_step = std::bit_cast<double>(static_cast<uint64_t>(1023 + 3 - exponent) << 52);
  const int steps = static_cast<int>(std::nearbyint(size * per_step));
  const int bits = std::min((exponent + 7) * 8 + steps - 8, 0x7E);
  code.bits = static_cast<uint8_t>(bits | (std::signbit(x) ? 0x80 : 0));
}

constexpr std::array<float, 256> e4m3_values() {
  std::array<float, 256> values{};
  for (int bits = 0; bits < 256; ++bits) {
    const int exponent = (bits >> 3) & 15;
    float value = static_cast<float>(exponent == 0 ? bits & 7 : 8 + (bits & 7));
    for (int e = std::max(exponent, 1); e < 10; ++e) value /= 2;
    for (int e = 10; e < exponent; ++e) value *= 2;
    if ((bits & 0x7F) == 0x7F) value = std::numeric_limits<float>::quiet_NaN();
    values[bits] = bits < 128 ? value : -value;
  }
  return values;
}
constexpr std::array<float, 256> kE4m3 = e4m3_values();

inline float value_of(int8_t code) { return code; }
inline float value_of(e4m3 code) { return kE4m3[code.bits]; }

}  // namespace

template <class Code>
void encode(Code* codes, float* scales, const float* x, int64_t columns, int64_t begin,
            int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    float* scale = scales + row * scales_of(columns);
    for (int64_t first = 0; first < columns; first += kScaleWidth, ++scale) {
      const int64_t from = row * columns + first;
      const int64_t to = from + std::min(kScaleWidth, columns - first);
      float most = 0;
      for (int64_t i = from; i < to; ++i) most = std::max(most, std::abs(x[i]));
      *scale = std::max(most / largest(Code{}), std::numeric_limits<float>::min());
      for (int64_t i = from; i < to; ++i)
        encode_one(codes[i], static_cast<double>(x[i]) / static_cast<double>(*scale));
    }
  }
}

template <class Code>
void decode(float* x, const Code* codes, const float* scales, int64_t columns, int64_t begin,
            int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* scale = scales + row * scales_of(columns);
    for (int64_t first = 0; first < columns; first += kScaleWidth, ++scale) {
      const int64_t from = row * columns + first;
      const int64_t to = from + std::min(kScaleWidth, columns - first);
#pragma omp simd
      for (int64_t i = from; i < to; ++i) x[i] = value_of(codes[i]) * *scale;
    }
  }
}

template void encode(int8_t*, float*, const float*, int64_t, int64_t, int64_t);
template void encode(e4m3*, float*, const float*, int64_t, int64_t, int64_t);
template void decode(float*, const int8_t*, const float*, int64_t, int64_t, int64_t);
template void decode(float*, const e4m3*, const float*, int64_t, int64_t, int64_t);

}  // namespace pendulum::kernels
