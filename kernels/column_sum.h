// Sums over rows, in pieces whose borders depend on the shape alone, so that a sum never depends on
// the thread count.
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

// A backward pass that sums over rows writes one partial sum per piece of a group; sum_pieces adds
// them up in order.
inline constexpr int64_t kPieceRows = 64;
inline int64_t pieces_of(int64_t rows) { return (rows + kPieceRows - 1) / kPieceRows; }

// partial[p, j] = sum over the rows i of piece p of x[i * stride + j], for pieces begin..end of
// pieces_of(rows).
//   partial (pieces, dim); x (rows, dim) with `stride` elements between rows
template <class T>
void column_sum(T* partial, const T* x, int64_t rows, int64_t dim, int64_t stride, int64_t begin,
                int64_t end);

// out[g, j] = sum over p of partial[g, p, j], for groups begin..end.  out (groups, dim); partial
// (groups, pieces, dim)
template <class T>
void sum_pieces(T* out, const T* partial, int64_t pieces, int64_t dim, int64_t begin, int64_t end);

// The same on a GPU, over all pieces and groups. x is float or bf16, sums are fp32.
template <class T>
void column_sum_cuda(float* partial, const T* x, int64_t rows, int64_t dim, int64_t stride,
                     Stream stream);
void sum_pieces_cuda(float* out, const float* partial, int64_t groups, int64_t pieces, int64_t dim,
                     Stream stream);

}  // namespace pendulum::kernels
