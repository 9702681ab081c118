// An exponential that the compiler can vectorise, for the CPU kernels.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace pendulum::kernels {

// e^x in fp32 within 2 units in the last place over [-87, 88], clamped outside; NaN stays NaN. x =
// n ln 2 + r, with ln 2 in two parts so that r is exact to fp32, and a polynomial of degree 7 in r
// (Taylor; |r| <= 0.35, remainder below 6e-9).
inline float exponential(float x) {
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  // Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the low bits.
  const float shifted = x * 1.44269504088896341F + 12582912.0F;
  const float n = shifted - 12582912.0F;
  float r = x - n * 0.693359375F;
  r = r + n * 2.12194440e-4F;
  float p = 1.9841270e-4F;
  p = p * r + 1.3888889e-3F;
  p = p * r + 8.3333333e-3F;
  p = p * r + 4.1666667e-2F;
  p = p * r + 1.6666667e-1F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const int32_t exponent = (std::bit_cast<int32_t>(shifted) - 0x4B400000 + 127) << 23;
  return p * std::bit_cast<float>(exponent);
}
inline double exponential(double x) { return std::exp(x); }

}  // namespace pendulum::kernels
