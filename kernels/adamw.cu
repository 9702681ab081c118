// AdamW and sums of squares over a list of tensors on a GPU: one launch, a block a chunk.
#include "kernels/adamw.h"
#include "kernels/adamw_update.h"
#include "kernels/launch.h"

namespace pendulum::kernels {
namespace {

using Factors = AdamWFactors<float>;

__device__ inline bool aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % sizeof(float4) == 0;
}

__device__ inline void update_four(const AdamWTensor<float>& t, int64_t i, float keep,
                                   const Factors& f) {
  Four p = load_four(t.parameter + i);
  const Four g = load_four(t.gradient + i);
  Four m = load_four(t.first + i);
  Four v = load_four(t.second + i);
  for (int j = 0; j < 4; ++j) update(p.v[j], g.v[j], m.v[j], v.v[j], keep, f);
  store_four(t.parameter + i, p);
  store_four(t.first + i, m);
  store_four(t.second + i, v);
  if (t.average == nullptr) return;
  Four a = load_four(t.average + i);
  for (int j = 0; j < 4; ++j) a.v[j] += f.pull * (p.v[j] - a.v[j]);
  store_four(t.average + i, a);
}

__device__ inline void update_one(const AdamWTensor<float>& t, int64_t i, float keep,
                                  const Factors& f) {
  float p = t.parameter[i];
  float m = t.first[i];
  float v = t.second[i];
  update(p, t.gradient[i], m, v, keep, f);
  t.parameter[i] = p;
  t.first[i] = m;
  t.second[i] = v;
  if (t.average != nullptr) t.average[i] += f.pull * (p - t.average[i]);
}

__global__ void adamw_kernel(const AdamWTensor<float>* tensors, const Chunk* chunks, Factors f) {
  const Chunk chunk = chunks[blockIdx.x];
  const AdamWTensor<float> t = tensors[chunk.tensor];
  const float keep = share_kept(t.decay, f);
  int64_t begin = chunk.begin;
  // Gradients may be slices of a larger tensor, at any element.
  if (aligned(t.parameter) && aligned(t.gradient) && aligned(t.first) && aligned(t.second) &&
      aligned(t.average)) {
    const int64_t whole = begin + (chunk.end - begin) / 4 * 4;
    for (int64_t i = begin + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x)
      update_four(t, i, keep, f);
    begin = whole;
  }
  for (int64_t i = begin + threadIdx.x; i < chunk.end; i += blockDim.x) update_one(t, i, keep, f);
}

__device__ inline double square(float x) { return static_cast<double>(x) * static_cast<double>(x); }

__global__ void sum_of_squares_kernel(double* partial, const float* const* tensors,
                                      const Chunk* chunks) {
  __shared__ double warps[kThreads / 32];
  const Chunk chunk = chunks[blockIdx.x];
  const float* x = tensors[chunk.tensor];
  double sum = 0;
  int64_t begin = chunk.begin;
  if (aligned(x)) {
    const int64_t whole = begin + (chunk.end - begin) / 4 * 4;
    for (int64_t i = begin + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x) {
      const Four a = load_four(x + i);
      sum += square(a.v[0]) + square(a.v[1]) + square(a.v[2]) + square(a.v[3]);
    }
    begin = whole;
  }
  for (int64_t i = begin + threadIdx.x; i < chunk.end; i += blockDim.x) sum += square(x[i]);
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffff, sum, lanes);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double whole = 0;
  for (const double warp : warps) whole += warp;
  partial[blockIdx.x] = whole;
}

}  // namespace

void adamw_cuda(const AdamWTensor<float>* tensors, const Chunk* chunks, int64_t num_chunks,
                const AdamWStep& step, double scale, Stream stream) {
  if (num_chunks == 0) return;
  launch("adamw", adamw_kernel, blocks_for(num_chunks), kThreads, stream, tensors, chunks,
         factors_of<float>(step, scale));
}

void sum_of_squares_cuda(double* partial, const float* const* tensors, const Chunk* chunks,
                         int64_t num_chunks, Stream stream) {
  if (num_chunks == 0) return;
  launch("sum_of_squares", sum_of_squares_kernel, blocks_for(num_chunks), kThreads, stream, partial,
         tensors, chunks);
}

}  // namespace pendulum::kernels
