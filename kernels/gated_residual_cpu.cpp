// The residual step on the CPU, forward and backward.
#include "kernels/gated_residual.h"

#include <algorithm>

#include "kernels/column_sum.h"

namespace pendulum::kernels {

template <class T>
void gated_residual(T* out, const T* x, const T* y, const T* bias, const T* gate,
                    const GatedResidualSizes& sizes, int64_t begin, int64_t end) {
  const int64_t dim = sizes.dim;
  const T* __restrict b = bias;
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict from = x + row * dim;
    const T* __restrict branch = y + row * dim;
    T* __restrict to = out + row * dim;
    if (gate == nullptr) {
#pragma omp simd
      for (int64_t j = 0; j < dim; ++j) to[j] = from[j] + (branch[j] + b[j]);
      continue;
    }
    const T* __restrict g = gate + row / sizes.rows * sizes.stride;
#pragma omp simd
    for (int64_t j = 0; j < dim; ++j) to[j] = from[j] + (branch[j] + b[j]) * g[j];
  }
}

template <class T>
void gated_residual_backward(T* dy, T* dgate, T* dbias, const T* dout, const T* y, const T* bias,
                             const T* gate, const GatedResidualSizes& sizes, int64_t begin,
                             int64_t end) {
  const int64_t dim = sizes.dim;
  const int64_t pieces = pieces_of(sizes.rows);
  const T* __restrict b = bias;
  for (int64_t piece = begin; piece < end; ++piece) {
    const int64_t group = piece / pieces;
    const int64_t first = (piece % pieces) * kPieceRows;
    const int64_t last = std::min(sizes.rows, first + kPieceRows);
    T* __restrict sum_bias = dbias + piece * dim;
    std::fill(sum_bias, sum_bias + dim, T(0));
    if (gate == nullptr) {
      for (int64_t row = group * sizes.rows + first; row < group * sizes.rows + last; ++row) {
        const T* __restrict d = dout + row * dim;
#pragma omp simd
        for (int64_t j = 0; j < dim; ++j) sum_bias[j] += d[j];
      }
      continue;
    }
    const T* __restrict g = gate + group * sizes.stride;
    T* __restrict sum_gate = dgate + piece * dim;
    std::fill(sum_gate, sum_gate + dim, T(0));
    for (int64_t row = group * sizes.rows + first; row < group * sizes.rows + last; ++row) {
      const T* __restrict d = dout + row * dim;
      const T* __restrict branch = y + row * dim;
      T* __restrict to = dy + row * dim;
#pragma omp simd
      for (int64_t j = 0; j < dim; ++j) {
        to[j] = d[j] * g[j];
        sum_gate[j] += d[j] * (branch[j] + b[j]);
        sum_bias[j] += d[j] * g[j];
      }
    }
  }
}

template void gated_residual(float*, const float*, const float*, const float*, const float*,
                             const GatedResidualSizes&, int64_t, int64_t);
template void gated_residual(double*, const double*, const double*, const double*, const double*,
                             const GatedResidualSizes&, int64_t, int64_t);
template void gated_residual_backward(float*, float*, float*, const float*, const float*,
                                      const float*, const float*, const GatedResidualSizes&,
                                      int64_t, int64_t);
template void gated_residual_backward(double*, double*, double*, const double*, const double*,
                                      const double*, const double*, const GatedResidualSizes&,
                                      int64_t, int64_t);

}  // namespace pendulum::kernels
