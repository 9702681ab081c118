// RMS norm across heads and rotation of pairs on the CPU, forward and backward.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/column_sum.h"
#include "kernels/qk_norm_rotary.h"

namespace pendulum::kernels {
namespace {

// to = from turned pair by pair, by +angle (direction 1) or -angle (direction -1); `from` may be
// `to`.
template <class T>
void rotate(T* to, const T* from, const T* __restrict cosine, const T* __restrict sine,
            int64_t heads, int64_t head_dim, T direction) {
  const int64_t pairs = head_dim / 2;
  for (int64_t head = 0; head < heads; ++head) {
    const T* in = from + head * head_dim;
    T* out = to + head * head_dim;
#pragma omp simd
    for (int64_t i = 0; i < pairs; ++i) {
      const T even = in[2 * i];
      const T odd = in[2 * i + 1];
      const T turn = direction * sine[i];
      out[2 * i] = even * cosine[i] - odd * turn;
      out[2 * i + 1] = even * turn + odd * cosine[i];
    }
  }
}

}  // namespace

template <class T>
void qk_norm_rotary(T* out, T* rstd, const T* x, const T* weight, const T* cosine, const T* sine,
                    const QkNormRotarySizes& sizes, int64_t begin, int64_t end) {
  const int64_t dim = sizes.heads * sizes.head_dim;
  const int64_t pairs = sizes.head_dim / 2;
  const T* __restrict row_weight = weight;
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict in = x + row * sizes.stride;
    T* __restrict to = out + row * dim;
    T squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < dim; ++j) squares += in[j] * in[j];
    const T row_rstd = T(1) / std::sqrt(squares / static_cast<T>(dim) + static_cast<T>(sizes.eps));
#pragma omp simd
    for (int64_t j = 0; j < dim; ++j) to[j] = in[j] * row_rstd * row_weight[j];
    rstd[row] = row_rstd;
    if (cosine == nullptr) continue;
    const int64_t position = row % sizes.tokens;
    rotate(to, to, cosine + position * pairs, sine + position * pairs, sizes.heads, sizes.head_dim,
           T(1));
  }
}

template <class T>
void qk_norm_rotary_backward(T* dx, T* dweight, const T* dout, const T* x, const T* rstd,
                             const T* weight, const T* cosine, const T* sine,
                             const QkNormRotarySizes& sizes, int64_t begin, int64_t end) {
  const int64_t dim = sizes.heads * sizes.head_dim;
  const int64_t pairs = sizes.head_dim / 2;
  const T* __restrict row_weight = weight;
  std::vector<T> turned(static_cast<size_t>(dim));
  for (int64_t piece = begin; piece < end; ++piece) {
    T* __restrict sum = dweight + piece * dim;
    std::fill(sum, sum + dim, T(0));
    const int64_t last = std::min(sizes.rows, (piece + 1) * kPieceRows);
    for (int64_t row = piece * kPieceRows; row < last; ++row) {
      const T* __restrict in = x + row * sizes.stride;
      T* __restrict to = dx + row * sizes.stride;
      const T* __restrict g = dout + row * dim;
      if (cosine != nullptr) {
        const int64_t position = row % sizes.tokens;
        rotate(turned.data(), g, cosine + position * pairs, sine + position * pairs, sizes.heads,
               sizes.head_dim, T(-1));
        g = turned.data();
      }
      const T row_rstd = rstd[row];
      T dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t j = 0; j < dim; ++j) {
        const T n = in[j] * row_rstd;
        sum[j] += g[j] * n;
        dot += g[j] * row_weight[j] * n;
      }
      const T mean_dot = dot / static_cast<T>(dim);
#pragma omp simd
      for (int64_t j = 0; j < dim; ++j)
        to[j] = row_rstd * (g[j] * row_weight[j] - in[j] * row_rstd * mean_dot);
    }
  }
}

template void qk_norm_rotary(float*, float*, const float*, const float*, const float*, const float*,
                             const QkNormRotarySizes&, int64_t, int64_t);
template void qk_norm_rotary(double*, double*, const double*, const double*, const double*,
                             const double*, const QkNormRotarySizes&, int64_t, int64_t);
template void qk_norm_rotary_backward(float*, float*, const float*, const float*, const float*,
                                      const float*, const float*, const float*,
                                      const QkNormRotarySizes&, int64_t, int64_t);
template void qk_norm_rotary_backward(double*, double*, const double*, const double*, const double*,
                                      const double*, const double*, const double*,
                                      const QkNormRotarySizes&, int64_t, int64_t);

}  // namespace pendulum::kernels
