// AdamW with moments in 8 bits over a list of tensors on a GPU: one launch, a block a chunk.
#include "kernels/adamw8bit.h"
#include "kernels/adamw_update.h"
#include "kernels/launch.h"

namespace pendulum::kernels {
namespace {

constexpr int kLanes = 32;
constexpr int kEach = kQuantBlock / kLanes;  // elements of a thread

__constant__ DynamicMap constant_maps[2] = {kFirstMap, kSecondMap};

// In shared memory: constant memory serves one address at a time, and lanes look up different ones.
struct Tables {
  float first[kCodes];
  float second[kCodes];
};

__device__ inline float largest_of_warp(float x) {
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, lanes));
  return x;
}

// Elements begin.. of a tensor up to `end` or a whole block, by one warp; neighbouring lanes take
// neighbouring elements, so nothing need be aligned.
__device__ inline void update_block(const AdamW8bitTensor& t, const AdamWFactors<float>& f,
                                    float keep, const Tables& tables, int64_t begin, int64_t end) {
  const int lane = threadIdx.x % kLanes;
  const int64_t block = begin / kQuantBlock;
  const float first_scale = t.first_scale[block];
  const float second_scale = t.second_scale[block];
  float m[kEach];
  float v[kEach];
  float largest_first = 0;
  float largest_second = 0;
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const int64_t i = begin + lane + kLanes * j;
    m[j] = v[j] = 0;
    if (i >= end) continue;
    m[j] = tables.first[t.first[i]] * first_scale;
    v[j] = tables.second[t.second[i]] * second_scale;
    float p = t.parameter[i];
    update(p, t.gradient[i], m[j], v[j], keep, f);
    t.parameter[i] = p;
    if (t.average != nullptr) t.average[i] += f.pull * (p - t.average[i]);
    m[j] = finite_part(m[j]);
    v[j] = finite_part(v[j]);
    largest_first = fmaxf(largest_first, fabsf(m[j]));
    largest_second = fmaxf(largest_second, v[j]);
  }
  const float new_first = scale_of(largest_of_warp(largest_first));
  const float new_second = scale_of(largest_of_warp(largest_second));
  const float divide_first = divisor_of(new_first);
  const float divide_second = divisor_of(new_second);
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const int64_t i = begin + lane + kLanes * j;
    if (i >= end) continue;
    t.first[i] = static_cast<uint8_t>(nearest_code(constant_maps[0], m[j] / divide_first));
    t.second[i] = static_cast<uint8_t>(nearest_code(constant_maps[1], v[j] / divide_second));
  }
  if (lane != 0) return;
  t.first_scale[block] = new_first;
  t.second_scale[block] = new_second;
}

__global__ void adamw8bit_kernel(const AdamW8bitTensor* tensors, const Chunk* chunks,
                                 AdamWFactors<float> f) {
  __shared__ Tables tables;
  for (int i = threadIdx.x; i < kCodes; i += blockDim.x) {
    tables.first[i] = constant_maps[0].values[i];
    tables.second[i] = constant_maps[1].values[i];
  }
  __syncthreads();
  const Chunk chunk = chunks[blockIdx.x];
  const AdamW8bitTensor t = tensors[chunk.tensor];
  const float keep = share_kept(t.decay, f);
  const int64_t stride = blockDim.x / kLanes * kQuantBlock;
  for (int64_t i = chunk.begin + threadIdx.x / kLanes * kQuantBlock; i < chunk.end; i += stride) {
    const int64_t end = i + kQuantBlock < chunk.end ? i + kQuantBlock : chunk.end;
    update_block(t, f, keep, tables, i, end);
  }
}

}  // namespace

void adamw8bit_cuda(const AdamW8bitTensor* tensors, const Chunk* chunks, int64_t num_chunks,
                    const AdamWStep& step, double scale, Stream stream) {
  if (num_chunks == 0) return;
  launch("adamw8bit", adamw8bit_kernel, blocks_for(num_chunks), kThreads, stream, tensors, chunks,
         factors_of<float>(step, scale));
}

}  // namespace pendulum::kernels
