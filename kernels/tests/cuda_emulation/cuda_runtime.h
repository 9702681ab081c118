// As much of CUDA's runtime as our kernels and their tests use, on the host: a block's threads take
// turns as coroutines, blocks come one after the other. What a .cu file computes and which memory
// it touches shows without a GPU; what a GPU's memory model and instructions do to it does not.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

// CUDA's words for where code and data belong mean nothing to a host. Blocks run one after the
// other, so that a static is what a block's threads share.
#define __CUDACC__ 1
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static

struct dim3 {
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
  unsigned x, y, z;
};
inline dim3 threadIdx(0, 0, 0), blockIdx(0, 0, 0), blockDim;

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

namespace cuda_emulation {

// Runs body() as every thread of every block, in rising order and in falling order in turns. False
// where a GPU would refuse the configuration. Ends the program where threads wait at barriers that
// others never reach.
bool run(dim3 grid, dim3 threads, const std::function<void()>& body);
void sync_block();
void sync_warp();
// 8 bytes of each lane of the current warp, which are its own until the next but one barrier of the
// warp: what lanes show each other.
std::byte* shown(unsigned lane);

void* allocate(size_t bytes);
// Ends the program where something was written behind the block.
void release(void* block);

}  // namespace cuda_emulation

inline void __syncthreads() { cuda_emulation::sync_block(); }
inline void __syncwarp() { cuda_emulation::sync_warp(); }
template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int lanes) {
  static_assert(sizeof(T) <= 8);
  const unsigned lane = threadIdx.x % 32;
  const std::byte* from = cuda_emulation::shown(lane ^ static_cast<unsigned>(lanes));
  std::memcpy(cuda_emulation::shown(lane), &value, sizeof value);
  __syncwarp();
  T other;
  std::memcpy(&other, from, sizeof other);
  return other;
}

using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "an invalid configuration"; }
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
template <class T>
cudaError_t cudaMalloc(T** memory, size_t bytes) {
  *memory = static_cast<T*>(cuda_emulation::allocate(bytes));
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  cuda_emulation::release(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  const bool is_valid =
      cuda_emulation::run(config->gridDim, config->blockDim, [&] { kernel(arguments...); });
  return is_valid ? cudaSuccess : cudaErrorInvalidConfiguration;
}
