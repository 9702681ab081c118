// How CUDA kernels are started and checked. Included by .cu files alone.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/types.h"

namespace pendulum::kernels {

// After every launch: a wrong configuration shows here, with the kernel's name, and not in the next
// innocent call. Asking for the error also clears it.
inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA kernel ") + kernel + ": " +
                             cudaGetErrorString(error));
}

// kernel<<<grid, threads, 0, stream>>>(arguments...), checked; in words that a host's compiler
// takes too (tests/cuda_emulation).
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
            Stream stream, const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = reinterpret_cast<cudaStream_t>(stream);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  check_launch(name);
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA kernel ") + name + ": " + cudaGetErrorString(error));
}

// Sizes that a launcher's contract excludes are a bug of the caller.
inline void require(bool holds, const char* fact) {
  if (!holds) throw std::invalid_argument(std::string("CUDA kernels need ") + fact);
}

// A grid's x dimension ends at 2^31 - 1 blocks.
inline unsigned blocks_for(int64_t count) {
  require(count < (int64_t{1} << 31), "fewer than 2^31 blocks");
  return static_cast<unsigned>(count);
}

inline constexpr int kThreads = 256;

// Four neighbouring elements, read and written as one access of 16 (fp32) or 8 bytes (bf16),
// computed with as fp32.
struct Four {
  float v[4];
};

__device__ inline Four load_four(const float* p) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  return {{x.x, x.y, x.z, x.w}};
}
__device__ inline Four load_four(const bf16* p) {
  const uint2 x = *reinterpret_cast<const uint2*>(p);
  const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&x.x));
  const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&x.y));
  return {{low.x, low.y, high.x, high.y}};
}
__device__ inline void store_four(float* p, const Four& x) {
  *reinterpret_cast<float4*>(p) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}
__device__ inline void store_four(bf16* p, const Four& x) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(x.v[0], x.v[1]);
  const __nv_bfloat162 high = __floats2bfloat162_rn(x.v[2], x.v[3]);
  uint2 bits;
  bits.x = *reinterpret_cast<const unsigned*>(&low);
  bits.y = *reinterpret_cast<const unsigned*>(&high);
  *reinterpret_cast<uint2*>(p) = bits;
}

// The sum over all threads of the block, in all of them. `scratch` holds 32 floats; every thread of
// the block takes part.
__device__ inline float block_sum(float value, float* scratch) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffff, value, lanes);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  __syncthreads();  // the former sum may still be read
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  value = lane < static_cast<int>(blockDim.x) / 32 ? scratch[lane] : 0.0F;
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffff, value, lanes);
  return value;
}

// Threads for a row of `dim` elements, four each: whole warps, at most kThreads.
inline unsigned row_threads(int64_t dim) {
  const int64_t warps = (dim / 4 + 31) / 32;
  return static_cast<unsigned>(32 * (warps < 1               ? 1
                                     : warps > kThreads / 32 ? kThreads / 32
                                                             : warps));
}

}  // namespace pendulum::kernels
