// Bias and GELU on the CPU, forward and backward, with an exponential that vectorises.
#include "kernels/bias_gelu.h"

#include <algorithm>

#include "kernels/column_sum.h"
#include "kernels/exponential.h"

namespace pendulum::kernels {
namespace {

constexpr double kSlope = 1.5957691216057308;  // 2 sqrt(2 / pi)
constexpr double kCube = 0.044715;

// e^(-2u), with u the polynomial in h of the definition: (1 + tanh(u)) / 2 = 1 / (1 + e^(-2u)).
template <class T>
inline T decay_of(T h) {
  return exponential(-T(kSlope) * h * (T(1) + T(kCube) * h * h));
}

}  // namespace

template <class T>
void bias_gelu(T* out, const T* x, const T* bias, int64_t dim, int64_t begin, int64_t end) {
  const T* __restrict b = bias;
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict in = x + row * dim;
    T* __restrict to = out + row * dim;
#pragma omp simd
    for (int64_t j = 0; j < dim; ++j) {
      const T h = in[j] + b[j];
      to[j] = h / (T(1) + decay_of(h));
    }
  }
}

template <class T>
void bias_gelu_backward(T* dx, T* dbias, const T* dout, const T* x, const T* bias, int64_t rows,
                        int64_t dim, int64_t begin, int64_t end) {
  const T* __restrict b = bias;
  for (int64_t piece = begin; piece < end; ++piece) {
    T* __restrict sum = dbias + piece * dim;
    std::fill(sum, sum + dim, T(0));
    const int64_t last = std::min(rows, (piece + 1) * kPieceRows);
    for (int64_t row = piece * kPieceRows; row < last; ++row) {
      const T* __restrict in = x + row * dim;
      const T* d = dout + row * dim;
      T* to = dx + row * dim;
#pragma omp simd
      for (int64_t j = 0; j < dim; ++j) {
        const T h = in[j] + b[j];
        const T decay = decay_of(h);
        const T gate = T(1) / (T(1) + decay);
        const T slope = T(kSlope) * (T(1) + T(3 * kCube) * h * h);
        // gate' = gate (1 - gate) slope, where 1 - gate = gate decay keeps its digits for gates
        // near 1.
        const T g = d[j] * (gate + h * slope * gate * (gate * decay));
        to[j] = g;
        sum[j] += g;
      }
    }
  }
}

template void bias_gelu(float*, const float*, const float*, int64_t, int64_t, int64_t);
template void bias_gelu(double*, const double*, const double*, int64_t, int64_t, int64_t);
template void bias_gelu_backward(float*, float*, const float*, const float*, const float*, int64_t,
                                 int64_t, int64_t, int64_t);
template void bias_gelu_backward(double*, double*, const double*, const double*, const double*,
                                 int64_t, int64_t, int64_t, int64_t);

}  // namespace pendulum::kernels
