// RMS norm and SiLU on the CPU in one pass over memory.
#include "kernels/rms_silu.h"

#include <algorithm>
#include <cmath>

#include "kernels/exponential.h"

namespace pendulum::kernels {

template <class T>
void rms_silu(T* out, const T* x, const T* gamma, int64_t dim, int64_t begin, int64_t end) {
  constexpr T kLeast = static_cast<T>(1e-12);
  const T* __restrict weight = gamma;
  const T root = std::sqrt(static_cast<T>(dim));
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict in = x + row * dim;
    T* __restrict to = out + row * dim;
    T squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < dim; ++j) squares += in[j] * in[j];
    // std::max takes its first argument where the second is NaN: NaN stays, as `squares` is first.
    const T scale = root / std::max(std::sqrt(squares), kLeast);
#pragma omp simd
    for (int64_t j = 0; j < dim; ++j) {
      const T y = in[j] * scale * weight[j];
      to[j] = y / (T(1) + exponential(-y));
    }
  }
}

template void rms_silu(float*, const float*, const float*, int64_t, int64_t, int64_t);
template void rms_silu(double*, const double*, const double*, int64_t, int64_t, int64_t);

}  // namespace pendulum::kernels
