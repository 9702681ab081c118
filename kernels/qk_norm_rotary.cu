// RMS norm across heads, rotation and the cut into parts on a GPU. Forward: a block per row.
// Backward: a block per row for dx, then a block per piece and 1024 columns for the weight's
// gradient.
#include "kernels/column_sum.h"
#include "kernels/launch.h"
#include "kernels/qk_norm_rotary.h"

namespace pendulum::kernels {
namespace {

// Turns the two pairs of four neighbouring elements, column `column` of a row at `position`, by
// +-angle. Pairs never straddle two heads: head_dim is even.
__device__ inline Four turned(const Four& x, const float* cosine, const float* sine,
                              int64_t position, unsigned column, unsigned head_dim,
                              float direction) {
  if (cosine == nullptr) return x;
  Four out;
  unsigned within = column % head_dim;  // of 32 bits: a division of 64 costs more than the memory
  for (int i = 0; i < 4; i += 2) {
    const int64_t angle = position * (head_dim / 2) + within / 2;
    const float c = cosine[angle];
    const float s = direction * sine[angle];
    out.v[i] = x.v[i] * c - x.v[i + 1] * s;
    out.v[i + 1] = x.v[i] * s + x.v[i + 1] * c;
    within = within + 2 == head_dim ? 0 : within + 2;
  }
  return out;
}

// A row's place in the tables.
__device__ inline int64_t position_of(const QkNormRotarySizes& sizes, unsigned row) {
  return row % static_cast<unsigned>(sizes.tokens);
}

// Where four neighbouring elements of a row lie in out or dout: never in two parts.
__device__ inline int64_t place(const QkNormRotarySizes& sizes, int64_t row, unsigned column) {
  const auto width = static_cast<unsigned>(sizes.heads / sizes.parts * sizes.head_dim);
  const unsigned part = column / width;
  return part * sizes.part_stride + row * width + (column - part * width);
}

template <class T>
__global__ void cut_kernel(T* out, const T* x, QkNormRotarySizes sizes) {
  const int64_t row = blockIdx.x;
  for (unsigned j = 4 * threadIdx.x; j < sizes.heads * sizes.head_dim; j += 4 * blockDim.x)
    store_four(out + place(sizes, row, j), load_four(x + row * sizes.stride + j));
}

template <class T>
__global__ void uncut_kernel(T* dx, const T* dout, QkNormRotarySizes sizes) {
  const int64_t row = blockIdx.x;
  for (unsigned j = 4 * threadIdx.x; j < sizes.heads * sizes.head_dim; j += 4 * blockDim.x)
    store_four(dx + row * sizes.stride + j, load_four(dout + place(sizes, row, j)));
}

template <class T>
__global__ void forward_kernel(T* out, float* rstd, const T* x, const float* weight,
                               const float* cosine, const float* sine, QkNormRotarySizes sizes) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x;
  const int64_t dim = sizes.heads * sizes.head_dim;
  const T* in = x + row * sizes.stride;
  float squares = 0;
  for (unsigned j = 4 * threadIdx.x; j < dim; j += 4 * blockDim.x) {
    const Four a = load_four(in + j);
    for (int i = 0; i < 4; ++i) squares += a.v[i] * a.v[i];
  }
  const float row_rstd =
      rsqrtf(block_sum(squares, scratch) / static_cast<float>(dim) + static_cast<float>(sizes.eps));
  for (unsigned j = 4 * threadIdx.x; j < dim; j += 4 * blockDim.x) {
    Four a = load_four(in + j);
    const Four w = load_four(weight + j);
    for (int i = 0; i < 4; ++i) a.v[i] *= row_rstd * w.v[i];
    store_four(out + place(sizes, row, j),
               turned(a, cosine, sine, position_of(sizes, blockIdx.x), j, sizes.head_dim, 1.0F));
  }
  if (threadIdx.x == 0) rstd[row] = row_rstd;
}

template <class T>
__global__ void input_gradient_kernel(T* dx, const T* dout, const T* x, const float* rstd,
                                      const float* weight, const float* cosine, const float* sine,
                                      QkNormRotarySizes sizes) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x;
  const int64_t position = position_of(sizes, blockIdx.x);
  const int64_t dim = sizes.heads * sizes.head_dim;
  const float row_rstd = rstd[row];
  float dot = 0;
  for (unsigned j = 4 * threadIdx.x; j < dim; j += 4 * blockDim.x) {
    const Four a = load_four(x + row * sizes.stride + j);
    const Four w = load_four(weight + j);
    const Four g = turned(load_four(dout + place(sizes, row, j)), cosine, sine, position, j,
                          sizes.head_dim, -1.0F);
    for (int i = 0; i < 4; ++i) dot += g.v[i] * w.v[i] * a.v[i] * row_rstd;
  }
  const float mean_dot = block_sum(dot, scratch) / static_cast<float>(dim);
  for (unsigned j = 4 * threadIdx.x; j < dim; j += 4 * blockDim.x) {
    const Four a = load_four(x + row * sizes.stride + j);
    const Four w = load_four(weight + j);
    const Four g = turned(load_four(dout + place(sizes, row, j)), cosine, sine, position, j,
                          sizes.head_dim, -1.0F);
    Four to;
    for (int i = 0; i < 4; ++i)
      to.v[i] = row_rstd * (g.v[i] * w.v[i] - a.v[i] * row_rstd * mean_dot);
    store_four(dx + row * sizes.stride + j, to);
  }
}

template <class T>
__global__ void weight_gradient_kernel(float* dweight, const T* dout, const T* x, const float* rstd,
                                       const float* cosine, const float* sine,
                                       QkNormRotarySizes sizes) {
  const int64_t dim = sizes.heads * sizes.head_dim;
  const unsigned column = 4 * (blockIdx.y * blockDim.x + threadIdx.x);
  if (column >= dim) return;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kPieceRows;
  const int64_t last = min(sizes.rows, first + kPieceRows);
  Four sum{};
  for (int64_t row = first; row < last; ++row) {
    const Four a = load_four(x + row * sizes.stride + column);
    const Four g = turned(load_four(dout + place(sizes, row, column)), cosine, sine,
                          position_of(sizes, row), column, sizes.head_dim, -1.0F);
    for (int i = 0; i < 4; ++i) sum.v[i] += g.v[i] * a.v[i] * rstd[row];
  }
  store_four(dweight + blockIdx.x * dim + column, sum);
}

void require_sizes(const QkNormRotarySizes& sizes) {
  require(sizes.head_dim % 2 == 0 && sizes.heads % sizes.parts == 0 && sizes.part_dim() % 4 == 0 &&
              sizes.stride % 4 == 0 && sizes.part_stride % 4 == 0,
          "an even head_dim, rows of a part and strides in multiples of 4");
}

}  // namespace

template <class T>
void qk_norm_rotary_cuda(T* out, float* rstd, const T* x, const float* weight, const float* cosine,
                         const float* sine, const QkNormRotarySizes& sizes, Stream stream) {
  if (sizes.rows == 0) return;
  require_sizes(sizes);
  const int64_t dim = sizes.heads * sizes.head_dim;
  if (weight == nullptr) {
    return launch("qk_norm_rotary, values", cut_kernel<T>, blocks_for(sizes.rows), row_threads(dim),
                  stream, out, x, sizes);
  }
  launch("qk_norm_rotary", forward_kernel<T>, blocks_for(sizes.rows), row_threads(dim), stream, out,
         rstd, x, weight, cosine, sine, sizes);
}

template <class T>
void qk_norm_rotary_backward_cuda(T* dx, float* dweight, const T* dout, const T* x,
                                  const float* rstd, const float* weight, const float* cosine,
                                  const float* sine, const QkNormRotarySizes& sizes,
                                  Stream stream) {
  if (sizes.rows == 0) return;
  require_sizes(sizes);
  const int64_t dim = sizes.heads * sizes.head_dim;
  const unsigned threads = row_threads(dim);
  if (weight == nullptr) {
    return launch("qk_norm_rotary_backward, values", uncut_kernel<T>, blocks_for(sizes.rows),
                  threads, stream, dx, dout, sizes);
  }
  launch("qk_norm_rotary_backward, dx", input_gradient_kernel<T>, blocks_for(sizes.rows), threads,
         stream, dx, dout, x, rstd, weight, cosine, sine, sizes);
  const dim3 grid(blocks_for(pieces_of(sizes.rows)),
                  static_cast<unsigned>((dim / 4 + threads - 1) / threads));
  launch("qk_norm_rotary_backward, dweight", weight_gradient_kernel<T>, grid, threads, stream,
         dweight, dout, x, rstd, cosine, sine, sizes);
}

template void qk_norm_rotary_cuda(float*, float*, const float*, const float*, const float*,
                                  const float*, const QkNormRotarySizes&, Stream);
template void qk_norm_rotary_cuda(bf16*, float*, const bf16*, const float*, const float*,
                                  const float*, const QkNormRotarySizes&, Stream);
template void qk_norm_rotary_backward_cuda(float*, float*, const float*, const float*, const float*,
                                           const float*, const float*, const float*,
                                           const QkNormRotarySizes&, Stream);
template void qk_norm_rotary_backward_cuda(bf16*, float*, const bf16*, const bf16*, const float*,
                                           const float*, const float*, const float*,
                                           const QkNormRotarySizes&, Stream);

}  // namespace pendulum::kernels
