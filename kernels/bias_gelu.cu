// Bias and GELU on a GPU. Forward: a block per row and 1024 columns. Backward: a block per piece
// and 1024 columns.
#include "kernels/bias_gelu.h"
#include "kernels/column_sum.h"
#include "kernels/launch.h"

namespace pendulum::kernels {
namespace {

constexpr float kSlope = 1.5957691216057308F;  // 2 sqrt(2 / pi)
constexpr float kCube = 0.044715F;

// e^(-2u), as in the CPU twin; the argument is held where the result and its use stay finite.
__device__ inline float decay_of(float h) {
  return expf(fminf(-kSlope * h * (1.0F + kCube * h * h), 88.0F));
}

template <class T>
__global__ void forward_kernel(T* out, const T* x, const float* bias, int64_t dim) {
  const int64_t column = 4 * (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x);
  if (column >= dim) return;
  const int64_t element = blockIdx.x * dim + column;
  const Four a = load_four(x + element);
  const Four b = load_four(bias + column);
  Four to;
  for (int i = 0; i < 4; ++i) {
    const float h = a.v[i] + b.v[i];
    // fminf drops a NaN, so it comes back through h.
    to.v[i] = h / (1.0F + decay_of(h));
  }
  store_four(out + element, to);
}

template <class T>
__global__ void backward_kernel(T* dx, float* dbias, const T* dout, const T* x, const float* bias,
                                int64_t rows, int64_t dim) {
  const int64_t column = 4 * (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x);
  if (column >= dim) return;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kPieceRows;
  const int64_t last = min(rows, first + kPieceRows);
  const Four b = load_four(bias + column);
  Four sum{};
  for (int64_t row = first; row < last; ++row) {
    const Four a = load_four(x + row * dim + column);
    const Four d = load_four(dout + row * dim + column);
    Four to;
    for (int i = 0; i < 4; ++i) {
      const float h = a.v[i] + b.v[i];
      const float decay = decay_of(h);
      const float gate = 1.0F / (1.0F + decay);
      const float slope = kSlope * (1.0F + 3.0F * kCube * h * h);
      to.v[i] = d.v[i] * (gate + h * slope * gate * (gate * decay));
      sum.v[i] += to.v[i];
    }
    store_four(dx + row * dim + column, to);
  }
  store_four(dbias + blockIdx.x * dim + column, sum);
}

}  // namespace

template <class T>
void bias_gelu_cuda(T* out, const T* x, const float* bias, int64_t rows, int64_t dim,
                    Stream stream) {
  if (rows * dim == 0) return;
  require(dim % 4 == 0, "dim in multiples of 4");
  const unsigned threads = row_threads(dim);
  const dim3 grid(blocks_for(rows), static_cast<unsigned>((dim / 4 + threads - 1) / threads));
  launch("bias_gelu", forward_kernel<T>, grid, threads, stream, out, x, bias, dim);
}

template <class T>
void bias_gelu_backward_cuda(T* dx, float* dbias, const T* dout, const T* x, const float* bias,
                             int64_t rows, int64_t dim, Stream stream) {
  if (rows * dim == 0) return;
  require(dim % 4 == 0, "dim in multiples of 4");
  const unsigned threads = row_threads(dim);
  const dim3 grid(blocks_for(pieces_of(rows)),
                  static_cast<unsigned>((dim / 4 + threads - 1) / threads));
  launch("bias_gelu_backward", backward_kernel<T>, grid, threads, stream, dx, dbias, dout, x, bias,
         rows, dim);
}

template void bias_gelu_cuda(float*, const float*, const float*, int64_t, int64_t, Stream);
template void bias_gelu_cuda(bf16*, const bf16*, const float*, int64_t, int64_t, Stream);
template void bias_gelu_backward_cuda(float*, float*, const float*, const float*, const float*,
                                      int64_t, int64_t, Stream);
template void bias_gelu_backward_cuda(bf16*, float*, const bf16*, const bf16*, const float*,
                                      int64_t, int64_t, Stream);

}  // namespace pendulum::kernels
