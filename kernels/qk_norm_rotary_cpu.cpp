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

// Part `part` of a row of out or dout.
template <class T>
T* part_of(T* out, int64_t row, int64_t part, const QkNormRotarySizes& sizes) {
  return out + part * sizes.part_stride + row * sizes.part_dim();
}

// The tables' row for a row of x; null without rotation.
template <class T>
const T* angles(const T* table, int64_t row, const QkNormRotarySizes& sizes) {
  return table == nullptr ? nullptr : table + row % sizes.tokens * (sizes.head_dim / 2);
}

template <class T>
T reciprocal_root_mean_square(const T* __restrict x, int64_t dim, double eps) {
  T squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < dim; ++j) squares += x[j] * x[j];
  return T(1) / std::sqrt(squares / static_cast<T>(dim) + static_cast<T>(eps));
}

template <class T>
void scaled(T* __restrict to, const T* __restrict from, const T* __restrict weight, T factor,
            int64_t count) {
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) to[j] = from[j] * factor * weight[j];
}

// The gradient of the normed row, its parts put together and turned back; dout itself where that is
// it already.
template <class T>
const T* whole_gradient(T* buffer, const T* dout, int64_t row, const T* cosine, const T* sine,
                        const QkNormRotarySizes& sizes) {
  const int64_t width = sizes.part_dim();
  if (sizes.parts == 1 && cosine == nullptr) return dout + row * width;
  for (int64_t part = 0; part < sizes.parts; ++part) {
    const T* g = part_of(dout, row, part, sizes);
    if (cosine == nullptr) {
      std::copy_n(g, width, buffer + part * width);
    } else {
      rotate(buffer + part * width, g, angles(cosine, row, sizes), angles(sine, row, sizes),
             sizes.heads / sizes.parts, sizes.head_dim, T(-1));
    }
  }
  return buffer;
}

}  // namespace

template <class T>
void qk_norm_rotary(T* out, T* rstd, const T* x, const T* weight, const T* cosine, const T* sine,
                    const QkNormRotarySizes& sizes, int64_t begin, int64_t end) {
  const int64_t width = sizes.part_dim();
  for (int64_t row = begin; row < end; ++row) {
    const T* in = x + row * sizes.stride;
    if (weight != nullptr)
      rstd[row] = reciprocal_root_mean_square(in, sizes.heads * sizes.head_dim, sizes.eps);
    for (int64_t part = 0; part < sizes.parts; ++part) {
      T* to = part_of(out, row, part, sizes);
      if (weight == nullptr) {
        std::copy_n(in + part * width, width, to);
        continue;
      }
      scaled(to, in + part * width, weight + part * width, rstd[row], width);
      if (cosine != nullptr)
        rotate(to, to, angles(cosine, row, sizes), angles(sine, row, sizes),
               sizes.heads / sizes.parts, sizes.head_dim, T(1));
    }
  }
}

namespace {

// dx of one row, and what the row adds to the weight's gradient.
template <class T>
void row_gradient(T* __restrict dx, T* __restrict dweight, const T* __restrict g,
                  const T* __restrict x, const T* __restrict weight, T rstd, int64_t dim) {
  T dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t j = 0; j < dim; ++j) {
    const T n = x[j] * rstd;
    dweight[j] += g[j] * n;
    dot += g[j] * weight[j] * n;
  }
  const T mean_dot = dot / static_cast<T>(dim);
#pragma omp simd
  for (int64_t j = 0; j < dim; ++j) dx[j] = rstd * (g[j] * weight[j] - x[j] * rstd * mean_dot);
}

}  // namespace

template <class T>
void qk_norm_rotary_backward(T* dx, T* dweight, const T* dout, const T* x, const T* rstd,
                             const T* weight, const T* cosine, const T* sine,
                             const QkNormRotarySizes& sizes, int64_t begin, int64_t end) {
  const int64_t dim = sizes.heads * sizes.head_dim;
  std::vector<T> turned(static_cast<size_t>(dim));
  const T* table = weight == nullptr ? nullptr : cosine;
  for (int64_t piece = begin; piece < end; ++piece) {
    if (weight != nullptr) std::fill_n(dweight + piece * dim, dim, T(0));
    const int64_t last = std::min(sizes.rows, (piece + 1) * kPieceRows);
    for (int64_t row = piece * kPieceRows; row < last; ++row) {
      const T* g = whole_gradient(turned.data(), dout, row, table, sine, sizes);
      T* to = dx + row * sizes.stride;
      if (weight == nullptr) {
        std::copy_n(g, dim, to);
      } else {
        row_gradient(to, dweight + piece * dim, g, x + row * sizes.stride, weight, rstd[row], dim);
      }
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
