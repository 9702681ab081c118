// Sums over rows on the CPU.
#include <algorithm>

#include "kernels/column_sum.h"

namespace pendulum::kernels {

template <class T>
void column_sum(T* partial, const T* x, int64_t rows, int64_t dim, int64_t stride, int64_t begin,
                int64_t end) {
  for (int64_t piece = begin; piece < end; ++piece) {
    T* __restrict sum = partial + piece * dim;
    std::fill(sum, sum + dim, T(0));
    const int64_t last = std::min(rows, (piece + 1) * kPieceRows);
    int64_t row = piece * kPieceRows;
    // Four rows at a time: the sum is loaded and stored once for four of them.
    for (; row + 4 <= last; row += 4) {
      const T* __restrict a = x + row * stride;
#pragma omp simd
      for (int64_t j = 0; j < dim; ++j)
        sum[j] += (a[j] + a[j + stride]) + (a[j + 2 * stride] + a[j + 3 * stride]);
    }
    for (; row < last; ++row) {
      const T* __restrict a = x + row * stride;
#pragma omp simd
      for (int64_t j = 0; j < dim; ++j) sum[j] += a[j];
    }
  }
}

template <class T>
void sum_pieces(T* out, const T* partial, int64_t pieces, int64_t dim, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    T* __restrict sum = out + group * dim;
    std::fill(sum, sum + dim, T(0));
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const T* __restrict a = partial + (group * pieces + piece) * dim;
#pragma omp simd
      for (int64_t j = 0; j < dim; ++j) sum[j] += a[j];
    }
  }
}

template void column_sum(float*, const float*, int64_t, int64_t, int64_t, int64_t, int64_t);
template void column_sum(double*, const double*, int64_t, int64_t, int64_t, int64_t, int64_t);
template void sum_pieces(float*, const float*, int64_t, int64_t, int64_t, int64_t);
template void sum_pieces(double*, const double*, int64_t, int64_t, int64_t, int64_t);

}  // namespace pendulum::kernels
