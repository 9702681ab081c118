// Layer norm and modulation on the CPU, forward and backward.
#include <algorithm>
#include <cmath>

#include "kernels/column_sum.h"
#include "kernels/norm_modulate.h"

namespace pendulum::kernels {

template <class T>
void norm_modulate(T* out, T* mean, T* rstd, const T* x, const T* scale, const T* shift,
                   const NormModulateSizes& sizes, int64_t begin, int64_t end) {
  const int64_t dim = sizes.dim;
  const T offset = static_cast<T>(sizes.offset);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t group = row / sizes.rows;
    const T* __restrict in = x + row * dim;
    const T* __restrict row_scale = scale + group * sizes.stride;
    const T* __restrict row_shift = shift + group * sizes.stride;
    T* __restrict to = out + row * dim;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < dim; ++j) sum += in[j];
    const T row_mean = sum / static_cast<T>(dim);
    // The second pass is over centred values: a mean far from zero costs no digits.
    T squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < dim; ++j) squares += (in[j] - row_mean) * (in[j] - row_mean);
    const T row_rstd = T(1) / std::sqrt(squares / static_cast<T>(dim) + static_cast<T>(sizes.eps));
#pragma omp simd
    for (int64_t j = 0; j < dim; ++j)
      to[j] = (in[j] - row_mean) * row_rstd * (offset + row_scale[j]) + row_shift[j];
    mean[row] = row_mean;
    rstd[row] = row_rstd;
  }
}

namespace {

// dx of one row, with g = dout * (offset + scale) and n = norm(x): rstd * (g - mean(g) - n * mean(g
// n)). Adds dout * n to dscale and dout to dshift.
template <class T>
void backward_row(T* __restrict dx, T* __restrict dscale, T* __restrict dshift,
                  const T* __restrict dout, const T* __restrict x, const T* __restrict scale,
                  T mean, T rstd, T offset, int64_t dim) {
  T sum_g = 0;
  T sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
  for (int64_t j = 0; j < dim; ++j) {
    const T n = (x[j] - mean) * rstd;
    const T g = dout[j] * (offset + scale[j]);
    sum_g += g;
    sum_gn += g * n;
    dscale[j] += dout[j] * n;
    dshift[j] += dout[j];
  }
  const T mean_g = sum_g / static_cast<T>(dim);
  const T mean_gn = sum_gn / static_cast<T>(dim);
#pragma omp simd
  for (int64_t j = 0; j < dim; ++j) {
    const T n = (x[j] - mean) * rstd;
    dx[j] = rstd * (dout[j] * (offset + scale[j]) - mean_g - n * mean_gn);
  }
}

}  // namespace

template <class T>
void norm_modulate_backward(T* dx, T* dscale, T* dshift, const T* dout, const T* x, const T* mean,
                            const T* rstd, const T* scale, const NormModulateSizes& sizes,
                            int64_t begin, int64_t end) {
  const int64_t dim = sizes.dim;
  const int64_t pieces = pieces_of(sizes.rows);
  for (int64_t piece = begin; piece < end; ++piece) {
    T* sum_scale = dscale + piece * dim;
    T* sum_shift = dshift + piece * dim;
    std::fill(sum_scale, sum_scale + dim, T(0));
    std::fill(sum_shift, sum_shift + dim, T(0));
    const int64_t group = piece / pieces;
    const int64_t first = (piece % pieces) * kPieceRows;
    const int64_t last = std::min(sizes.rows, first + kPieceRows);
    for (int64_t row = group * sizes.rows + first; row < group * sizes.rows + last; ++row)
      backward_row(dx + row * dim, sum_scale, sum_shift, dout + row * dim, x + row * dim,
                   scale + group * sizes.stride, mean[row], rstd[row], static_cast<T>(sizes.offset),
                   dim);
  }
}

template void norm_modulate(float*, float*, float*, const float*, const float*, const float*,
                            const NormModulateSizes&, int64_t, int64_t);
template void norm_modulate(double*, double*, double*, const double*, const double*, const double*,
                            const NormModulateSizes&, int64_t, int64_t);
template void norm_modulate_backward(float*, float*, float*, const float*, const float*,
                                     const float*, const float*, const float*,
                                     const NormModulateSizes&, int64_t, int64_t);
template void norm_modulate_backward(double*, double*, double*, const double*, const double*,
                                     const double*, const double*, const double*,
                                     const NormModulateSizes&, int64_t, int64_t);

}  // namespace pendulum::kernels
