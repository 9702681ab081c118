// Matrix products of a few dozen rows, where calling a BLAS costs more than the arithmetic.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace pendulum::kernels {

// A (rows, columns) matrix in memory: element (i, j) at data[i * row + j * column].
template <class T>
struct Strided {
  const T* data;
  int64_t row;
  int64_t column;
};

// A vector register of AVX2; other targets compile to what they have.
template <class T>
struct Register {
  static constexpr int64_t kLanes = 32 / sizeof(T);
  using Type __attribute__((vector_size(32))) = T;
};

// Rows x (Columns registers) of c = a b (+ c): the sums stay in registers over the whole depth.
template <class T, int Rows, int Columns>
inline void product_tile(T* c, int64_t c_row, Strided<T> a, const T* b, int64_t b_row,
                         int64_t depth, bool add) {
  using Lanes = typename Register<T>::Type;
  constexpr int64_t kLanes = Register<T>::kLanes;
  Lanes sum[Rows][Columns] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Lanes right[Columns];
#pragma GCC unroll 2
    for (int j = 0; j < Columns; ++j)
      std::memcpy(&right[j], b + k * b_row + j * kLanes, sizeof(Lanes));
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
      const T left = a.data[i * a.row + k * a.column];
#pragma GCC unroll 2
      for (int j = 0; j < Columns; ++j) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Columns; ++j) {
      T* to = c + i * c_row + j * kLanes;
      Lanes before{};
      if (add) std::memcpy(&before, to, sizeof(Lanes));
      sum[i][j] += before;
      std::memcpy(to, &sum[i][j], sizeof(Lanes));
    }
  }
}

// All rows of Columns registers' worth of columns: b's panel stays in the cache while a's rows pass
// by.
template <class T, int Columns>
inline void product_panel(T* c, int64_t c_row, Strided<T> a, const T* b, int64_t b_row,
                          int64_t rows, int64_t depth, bool add) {
  int64_t i = 0;
  // 6 x 2 registers of sums, 2 of b and 1 of a are what AVX2's 16 hold.
  for (; i + 6 <= rows; i += 6)
    product_tile<T, 6, Columns>(c + i * c_row, c_row, {a.data + i * a.row, a.row, a.column}, b,
                                b_row, depth, add);
  const Strided<T> rest{a.data + i * a.row, a.row, a.column};
  T* to = c + i * c_row;
  switch (rows - i) {
    case 1:
      return product_tile<T, 1, Columns>(to, c_row, rest, b, b_row, depth, add);
    case 2:
      return product_tile<T, 2, Columns>(to, c_row, rest, b, b_row, depth, add);
    case 3:
      return product_tile<T, 3, Columns>(to, c_row, rest, b, b_row, depth, add);
    case 4:
      return product_tile<T, 4, Columns>(to, c_row, rest, b, b_row, depth, add);
    case 5:
      return product_tile<T, 5, Columns>(to, c_row, rest, b, b_row, depth, add);
    default:
      return;
  }
}

// small_product for one stretch of the depth.
template <class T>
void product_stretch(T* c, int64_t c_row, Strided<T> a, const T* b, int64_t b_row, int64_t rows,
                     int64_t columns, int64_t depth, bool add) {
  constexpr int64_t kLanes = Register<T>::kLanes;
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes)
    product_panel<T, 2>(c + j, c_row, a, b + j, b_row, rows, depth, add);
  for (; j + kLanes <= columns; j += kLanes)
    product_panel<T, 1>(c + j, c_row, a, b + j, b_row, rows, depth, add);
  for (; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) {
      T sum = add ? c[i * c_row + j] : T(0);
      for (int64_t k = 0; k < depth; ++k)
        sum += a.data[i * a.row + k * a.column] * b[k * b_row + j];
      c[i * c_row + j] = sum;
    }
  }
}

// Terms that are summed in one register. Its rounding errors grow with the number of terms, and do
// not cancel where the terms are alike, as those of a padded caption's 500 equal keys are.
inline constexpr int64_t kStretch = 32;

// c (rows, columns) = a (rows, depth) b (depth, columns), or c += with `add`. c and b have
// contiguous rows.
template <class T>
void small_product(T* c, int64_t c_row, Strided<T> a, const T* b, int64_t b_row, int64_t rows,
                   int64_t columns, int64_t depth, bool add) {
  for (int64_t k = 0; k == 0 || k < depth; k += kStretch) {
    product_stretch<T>(c, c_row, {a.data + k * a.column, a.row, a.column}, b + k * b_row, b_row,
                       rows, columns, std::min(kStretch, depth - k), add || k > 0);
  }
}

}  // namespace pendulum::kernels
