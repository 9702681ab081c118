// Layer norm and modulation on a GPU. Forward: a block per row. Backward: a block per row for dx,
// then a block per piece and 1024 columns for the sums over rows, so that no atomics are needed and
// the order of additions is fixed.
#include "kernels/column_sum.h"
#include "kernels/launch.h"
#include "kernels/norm_modulate.h"

namespace pendulum::kernels {
namespace {

template <class T>
__global__ void forward_kernel(T* out, float* mean, float* rstd, const T* x, const float* scale,
                               const float* shift, NormModulateSizes sizes) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x;
  const int64_t modulation = blockIdx.x / static_cast<unsigned>(sizes.rows) * sizes.stride;
  const T* in = x + row * sizes.dim;
  const float per_element = 1.0F / static_cast<float>(sizes.dim);
  float sum = 0;
  for (int64_t j = 4 * threadIdx.x; j < sizes.dim; j += 4 * blockDim.x) {
    const Four a = load_four(in + j);
    for (int i = 0; i < 4; ++i) sum += a.v[i];
  }
  const float row_mean = block_sum(sum, scratch) * per_element;
  float squares = 0;
  for (int64_t j = 4 * threadIdx.x; j < sizes.dim; j += 4 * blockDim.x) {
    const Four a = load_four(in + j);
    for (int i = 0; i < 4; ++i) squares += (a.v[i] - row_mean) * (a.v[i] - row_mean);
  }
  const float row_rstd =
      rsqrtf(block_sum(squares, scratch) * per_element + static_cast<float>(sizes.eps));
  const float offset = static_cast<float>(sizes.offset);
  for (int64_t j = 4 * threadIdx.x; j < sizes.dim; j += 4 * blockDim.x) {
    const Four a = load_four(in + j);
    const Four factor = load_four(scale + modulation + j);
    const Four addend = load_four(shift + modulation + j);
    Four to;
    for (int i = 0; i < 4; ++i)
      to.v[i] = (a.v[i] - row_mean) * row_rstd * (offset + factor.v[i]) + addend.v[i];
    store_four(out + row * sizes.dim + j, to);
  }
  if (threadIdx.x == 0) {
    mean[row] = row_mean;
    rstd[row] = row_rstd;
  }
}

template <class T>
__global__ void input_gradient_kernel(T* dx, const T* dout, const T* x, const float* mean,
                                      const float* rstd, const float* scale,
                                      NormModulateSizes sizes) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x;
  const int64_t modulation = blockIdx.x / static_cast<unsigned>(sizes.rows) * sizes.stride;
  const float row_mean = mean[row];
  const float row_rstd = rstd[row];
  const float offset = static_cast<float>(sizes.offset);
  const float per_element = 1.0F / static_cast<float>(sizes.dim);
  float sum_g = 0;
  float sum_gn = 0;
  for (int64_t j = 4 * threadIdx.x; j < sizes.dim; j += 4 * blockDim.x) {
    const Four a = load_four(x + row * sizes.dim + j);
    const Four d = load_four(dout + row * sizes.dim + j);
    const Four factor = load_four(scale + modulation + j);
    for (int i = 0; i < 4; ++i) {
      const float g = d.v[i] * (offset + factor.v[i]);
      sum_g += g;
      sum_gn += g * (a.v[i] - row_mean) * row_rstd;
    }
  }
  const float mean_g = block_sum(sum_g, scratch) * per_element;
  const float mean_gn = block_sum(sum_gn, scratch) * per_element;
  for (int64_t j = 4 * threadIdx.x; j < sizes.dim; j += 4 * blockDim.x) {
    const Four a = load_four(x + row * sizes.dim + j);
    const Four d = load_four(dout + row * sizes.dim + j);
    const Four factor = load_four(scale + modulation + j);
    Four to;
    for (int i = 0; i < 4; ++i) {
      const float n = (a.v[i] - row_mean) * row_rstd;
      to.v[i] = row_rstd * (d.v[i] * (offset + factor.v[i]) - mean_g - n * mean_gn);
    }
    store_four(dx + row * sizes.dim + j, to);
  }
}

template <class T>
__global__ void modulation_gradient_kernel(float* dscale, float* dshift, const T* dout, const T* x,
                                           const float* mean, const float* rstd,
                                           NormModulateSizes sizes, int64_t pieces) {
  const int64_t column = 4 * (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x);
  if (column >= sizes.dim) return;
  const int64_t group = blockIdx.x / pieces;
  const int64_t first = blockIdx.x % pieces * kPieceRows;
  const int64_t last = min(sizes.rows, first + kPieceRows);
  Four sum_scale{};
  Four sum_shift{};
  for (int64_t row = group * sizes.rows + first; row < group * sizes.rows + last; ++row) {
    const Four a = load_four(x + row * sizes.dim + column);
    const Four d = load_four(dout + row * sizes.dim + column);
    for (int i = 0; i < 4; ++i) {
      sum_scale.v[i] += d.v[i] * (a.v[i] - mean[row]) * rstd[row];
      sum_shift.v[i] += d.v[i];
    }
  }
  store_four(dscale + blockIdx.x * sizes.dim + column, sum_scale);
  store_four(dshift + blockIdx.x * sizes.dim + column, sum_shift);
}

void require_fours(const NormModulateSizes& sizes) {
  require(sizes.dim % 4 == 0 && sizes.stride % 4 == 0, "dim and stride in multiples of 4");
}

}  // namespace

template <class T>
void norm_modulate_cuda(T* out, float* mean, float* rstd, const T* x, const float* scale,
                        const float* shift, const NormModulateSizes& sizes, Stream stream) {
  const int64_t rows = sizes.groups * sizes.rows;
  if (rows == 0) return;
  require_fours(sizes);
  launch("norm_modulate", forward_kernel<T>, blocks_for(rows), row_threads(sizes.dim), stream, out,
         mean, rstd, x, scale, shift, sizes);
}

template <class T>
void norm_modulate_backward_cuda(T* dx, float* dscale, float* dshift, const T* dout, const T* x,
                                 const float* mean, const float* rstd, const float* scale,
                                 const NormModulateSizes& sizes, Stream stream) {
  const int64_t rows = sizes.groups * sizes.rows;
  if (rows == 0) return;
  require_fours(sizes);
  launch("norm_modulate_backward, dx", input_gradient_kernel<T>, blocks_for(rows),
         row_threads(sizes.dim), stream, dx, dout, x, mean, rstd, scale, sizes);
  const int64_t pieces = pieces_of(sizes.rows);
  const unsigned threads = row_threads(sizes.dim);
  const dim3 grid(blocks_for(sizes.groups * pieces),
                  static_cast<unsigned>((sizes.dim / 4 + threads - 1) / threads));
  launch("norm_modulate_backward, dscale and dshift", modulation_gradient_kernel<T>, grid, threads,
         stream, dscale, dshift, dout, x, mean, rstd, sizes, pieces);
}

template void norm_modulate_cuda(float*, float*, float*, const float*, const float*, const float*,
                                 const NormModulateSizes&, Stream);
template void norm_modulate_cuda(bf16*, float*, float*, const bf16*, const float*, const float*,
                                 const NormModulateSizes&, Stream);
template void norm_modulate_backward_cuda(float*, float*, float*, const float*, const float*,
                                          const float*, const float*, const float*,
                                          const NormModulateSizes&, Stream);
template void norm_modulate_backward_cuda(bf16*, float*, float*, const bf16*, const bf16*,
                                          const float*, const float*, const float*,
                                          const NormModulateSizes&, Stream);

}  // namespace pendulum::kernels
