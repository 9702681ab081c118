// AdamW with decoupled weight decay, gradient clipping and the moving average of the weights, in
// one pass over memory.
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

// One parameter tensor and all that belongs to it; `count` elements each, fp32 in training.
template <class T>
struct AdamWTensor {
  T* parameter = nullptr;
  const T* gradient = nullptr;
  T* first = nullptr;    // moving average of the gradient
  T* second = nullptr;   // moving average of its square
  T* average = nullptr;  // moving average of the parameter; null: none is kept
  int64_t count = 0;
  double decay = 0;  // weight decay of this tensor
};

// Settings of one step, the same for all tensors.
//   first = b1 first + (1 - b1) s g;  second = b2 second + (1 - b2) (s g)^2
//   parameter = parameter (1 - rate decay) - rate (first / c1) / (sqrt(second / c2) + eps),  c = 1
//   - b^step average = average + (1 - average_decay) (parameter - average)
struct AdamWStep {
  double rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double eps = 1e-8;
  double average_decay = 0.999;
  int64_t step = 1;  // counts from 1
};

// For elements begin..end of one tensor; the gradient is multiplied by `scale` (the clipping
// factor) first.
template <class T>
void adamw(const AdamWTensor<T>& tensor, const AdamWStep& step, double scale, int64_t begin,
           int64_t end);

// sum of x[i]^2 over begin..end, in fp64.
template <class T>
double sum_of_squares(const T* x, int64_t begin, int64_t end);

// On a GPU: all tensors in a few launches.
void adamw_cuda(const AdamWTensor<float>* tensors, int64_t num_tensors, const AdamWStep& step,
                double scale, Stream stream);

// partial[b] = the sum of x[i]^2 over the elements of block b, fp64; kSumBlocks numbers, whose sum
// is the result. The order of additions is fixed.
inline constexpr int64_t kSumBlocks = 512;
void sum_of_squares_cuda(double* partial, const float* x, int64_t count, Stream stream);

}  // namespace pendulum::kernels
