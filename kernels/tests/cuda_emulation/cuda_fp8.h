// Float8 E4M3 as CUDA names it.
#pragma once
#include "cuda_runtime.h"

enum __nv_fp8_interpretation_t { __NV_E4M3 };
struct __half_raw {
  float value;
};
struct __half {
  explicit __half(const __half_raw& raw) : value(raw.value) {}
  float value;
};

inline __half_raw __nv_cvt_fp8_to_halfraw(uint8_t bits, __nv_fp8_interpretation_t) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const float size = (bits & 0x7F) == 0x7F ? NAN
                     : exponent == 0       ? std::ldexp(static_cast<float>(fraction), -9)
                                     : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return {bits < 0x80 ? size : -size};
}
inline float __half2float(const __half& x) { return x.value; }
