// AdamW and the sum of squares on a GPU. Tensors are handed to a kernel by value, as many as its
// parameters hold.
#include <cmath>

#include "kernels/adamw.h"
#include "kernels/launch.h"

namespace pendulum::kernels {
namespace {

constexpr int kTensorsPerLaunch = 48;  // 48 x 56 bytes: below the 4 KB of kernel parameters
constexpr int64_t kChunk = 65536;      // elements a block works on

// Blocks first[i] .. first[i + 1] - 1 belong to tensor i.
struct Launch {
  AdamWTensor<float> tensors[kTensorsPerLaunch];
  int first[kTensorsPerLaunch + 1];
  int num_tensors;
};

struct Factors {
  float scale, beta1, rest1, beta2, rest2, move, root, eps, rate, pull;
};

__global__ void adamw_kernel(const __grid_constant__ Launch launch, Factors f) {
  int index = 0;
  while (launch.first[index + 1] <= static_cast<int>(blockIdx.x)) ++index;
  const AdamWTensor<float>& t = launch.tensors[index];
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - launch.first[index]) * kChunk;
  const int64_t end = min(t.count, begin + kChunk);
  const float keep = 1.0F - f.rate * static_cast<float>(t.decay);
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const float g = t.gradient[i] * f.scale;
    const float m = f.beta1 * t.first[i] + f.rest1 * g;
    const float v = f.beta2 * t.second[i] + f.rest2 * g * g;
    const float p = t.parameter[i] * keep - f.move * m / (sqrtf(v) * f.root + f.eps);
    t.first[i] = m;
    t.second[i] = v;
    t.parameter[i] = p;
    if (t.average != nullptr) t.average[i] += f.pull * (p - t.average[i]);
  }
}

__global__ void sum_of_squares_kernel(double* partial, const float* x, int64_t count) {
  __shared__ double warps[kThreads / 32];
  double sum = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const double value = static_cast<double>(x[i]);
    sum += value * value;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffff, sum, lanes);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double whole = 0;
  for (const double warp : warps) whole += warp;
  partial[blockIdx.x] = whole;
}

}  // namespace

void adamw_cuda(const AdamWTensor<float>* tensors, int64_t num_tensors, const AdamWStep& step,
                double scale, Stream stream) {
  const double correction1 = 1 - std::pow(step.beta1, static_cast<double>(step.step));
  const double correction2 = 1 - std::pow(step.beta2, static_cast<double>(step.step));
  const Factors factors{static_cast<float>(scale),
                        static_cast<float>(step.beta1),
                        static_cast<float>(1 - step.beta1),
                        static_cast<float>(step.beta2),
                        static_cast<float>(1 - step.beta2),
                        static_cast<float>(step.rate / correction1),
                        static_cast<float>(1 / std::sqrt(correction2)),
                        static_cast<float>(step.eps),
                        static_cast<float>(step.rate),
                        static_cast<float>(1 - step.average_decay)};
  for (int64_t done = 0; done < num_tensors;) {
    Launch launch{};
    int64_t blocks = 0;
    while (done < num_tensors && launch.num_tensors < kTensorsPerLaunch) {
      launch.tensors[launch.num_tensors] = tensors[done++];
      blocks += (launch.tensors[launch.num_tensors].count + kChunk - 1) / kChunk;
      launch.first[++launch.num_tensors] = static_cast<int>(blocks);
    }
    if (blocks == 0) continue;
    adamw_kernel<<<blocks_for(blocks), kThreads, 0, stream>>>(launch, factors);
    check_launch("adamw");
  }
}

void sum_of_squares_cuda(double* partial, const float* x, int64_t count, Stream stream) {
  sum_of_squares_kernel<<<kSumBlocks, kThreads, 0, stream>>>(partial, x, count);
  check_launch("sum_of_squares");
}

}  // namespace pendulum::kernels
