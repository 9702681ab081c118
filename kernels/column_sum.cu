// Sums over rows on a GPU: one thread per four columns and piece.
#include "kernels/column_sum.h"
#include "kernels/launch.h"

namespace pendulum::kernels {
namespace {

template <class T>
__global__ void column_sum_kernel(float* partial, const T* x, int64_t rows, int64_t dim,
                                  int64_t stride) {
  const int64_t column = 4 * (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x);
  if (column >= dim) return;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kPieceRows;
  const int64_t last = min(rows, first + kPieceRows);
  Four sum{};
  for (int64_t row = first; row < last; ++row) {
    const Four a = load_four(x + row * stride + column);
    for (int i = 0; i < 4; ++i) sum.v[i] += a.v[i];
  }
  store_four(partial + blockIdx.x * dim + column, sum);
}

__global__ void sum_pieces_kernel(float* out, const float* partial, int64_t pieces, int64_t dim) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (column >= dim) return;
  const float* a = partial + blockIdx.x * pieces * dim + column;
  float sum = 0;
  for (int64_t piece = 0; piece < pieces; ++piece) sum += a[piece * dim];
  out[blockIdx.x * dim + column] = sum;
}

unsigned column_blocks(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

template <class T>
void column_sum_cuda(float* partial, const T* x, int64_t rows, int64_t dim, int64_t stride,
                     Stream stream) {
  if (rows == 0) return;
  require(dim % 4 == 0 && stride % 4 == 0, "dim and stride in multiples of 4");
  const dim3 grid(blocks_for(pieces_of(rows)), column_blocks(dim / 4));
  launch("column_sum", column_sum_kernel<T>, grid, kThreads, stream, partial, x, rows, dim, stride);
}

void sum_pieces_cuda(float* out, const float* partial, int64_t groups, int64_t pieces, int64_t dim,
                     Stream stream) {
  if (groups == 0) return;
  const dim3 grid(blocks_for(groups), column_blocks(dim));
  launch("sum_pieces", sum_pieces_kernel, grid, kThreads, stream, out, partial, pieces, dim);
}

template void column_sum_cuda(float*, const float*, int64_t, int64_t, int64_t, Stream);
template void column_sum_cuda(float*, const bf16*, int64_t, int64_t, int64_t, Stream);

}  // namespace pendulum::kernels
