// The residual step on a GPU. Forward: a block per row and 1024 columns. Backward: a block per
// piece and 1024 columns does both the gradient of y and the sums over rows.
#include "kernels/column_sum.h"
#include "kernels/gated_residual.h"
#include "kernels/launch.h"

namespace pendulum::kernels {
namespace {

template <class T>
__global__ void forward_kernel(T* out, const T* x, const T* y, const float* bias, const float* gate,
                               GatedResidualSizes sizes) {
  const int64_t column = 4 * (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x);
  if (column >= sizes.dim) return;
  const int64_t element = blockIdx.x * sizes.dim + column;
  const Four from = load_four(x + element);
  const Four branch = load_four(y + element);
  const Four b = load_four(bias + column);
  Four g{{1.0F, 1.0F, 1.0F, 1.0F}};
  if (gate != nullptr) {
    const unsigned group = blockIdx.x / static_cast<unsigned>(sizes.rows);
    g = load_four(gate + group * sizes.stride + column);
  }
  Four to;
  for (int i = 0; i < 4; ++i) to.v[i] = from.v[i] + (branch.v[i] + b.v[i]) * g.v[i];
  store_four(out + element, to);
}

template <class T>
__global__ void backward_kernel(T* dy, float* dgate, float* dbias, const T* dout, const T* y,
                                const float* bias, const float* gate, GatedResidualSizes sizes,
                                int64_t pieces) {
  const int64_t column = 4 * (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x);
  if (column >= sizes.dim) return;
  const int64_t group = blockIdx.x / pieces;
  const int64_t first = blockIdx.x % pieces * kPieceRows;
  const int64_t last = min(sizes.rows, first + kPieceRows);
  const Four b = load_four(bias + column);
  Four g{};
  if (gate != nullptr) g = load_four(gate + group * sizes.stride + column);
  Four sum_bias{};
  Four sum_gate{};
  for (int64_t row = group * sizes.rows + first; row < group * sizes.rows + last; ++row) {
    Four d = load_four(dout + row * sizes.dim + column);
    if (gate != nullptr) {
      const Four branch = load_four(y + row * sizes.dim + column);
      for (int i = 0; i < 4; ++i) {
        sum_gate.v[i] += d.v[i] * (branch.v[i] + b.v[i]);
        d.v[i] *= g.v[i];
      }
      store_four(dy + row * sizes.dim + column, d);
    }
    for (int i = 0; i < 4; ++i) sum_bias.v[i] += d.v[i];
  }
  store_four(dbias + blockIdx.x * sizes.dim + column, sum_bias);
  if (gate != nullptr) store_four(dgate + blockIdx.x * sizes.dim + column, sum_gate);
}

void require_fours(const GatedResidualSizes& sizes) {
  require(sizes.dim % 4 == 0 && sizes.stride % 4 == 0, "dim and stride in multiples of 4");
}

}  // namespace

template <class T>
void gated_residual_cuda(T* out, const T* x, const T* y, const float* bias, const float* gate,
                         const GatedResidualSizes& sizes, Stream stream) {
  const int64_t rows = sizes.groups * sizes.rows;
  if (rows * sizes.dim == 0) return;
  require_fours(sizes);
  const unsigned threads = row_threads(sizes.dim);
  const dim3 grid(blocks_for(rows), static_cast<unsigned>((sizes.dim / 4 + threads - 1) / threads));
  launch("gated_residual", forward_kernel<T>, grid, threads, stream, out, x, y, bias, gate, sizes);
}

template <class T>
void gated_residual_backward_cuda(T* dy, float* dgate, float* dbias, const T* dout, const T* y,
                                  const float* bias, const float* gate,
                                  const GatedResidualSizes& sizes, Stream stream) {
  if (sizes.groups * sizes.rows * sizes.dim == 0) return;
  require_fours(sizes);
  const int64_t pieces = pieces_of(sizes.rows);
  const unsigned threads = row_threads(sizes.dim);
  const dim3 grid(blocks_for(sizes.groups * pieces),
                  static_cast<unsigned>((sizes.dim / 4 + threads - 1) / threads));
  launch("gated_residual_backward", backward_kernel<T>, grid, threads, stream, dy, dgate, dbias,
         dout, y, bias, gate, sizes, pieces);
}

template void gated_residual_cuda(float*, const float*, const float*, const float*, const float*,
                                  const GatedResidualSizes&, Stream);
template void gated_residual_cuda(bf16*, const bf16*, const bf16*, const float*, const float*,
                                  const GatedResidualSizes&, Stream);
template void gated_residual_backward_cuda(float*, float*, float*, const float*, const float*,
                                           const float*, const float*, const GatedResidualSizes&,
                                           Stream);
template void gated_residual_backward_cuda(bf16*, float*, float*, const bf16*, const bf16*,
                                           const float*, const float*, const GatedResidualSizes&,
                                           Stream);

}  // namespace pendulum::kernels
