// AdamW with decoupled weight decay, gradient clipping and the moving average of the weights, in
// one pass over memory.
#pragma once
#include <cstdint>

#include "kernels/chunks.h"
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
//   parameter = parameter (1 - rate decay) - rate (first / c1) / (sqrt(second / c2) + eps)
//   average = average + (1 - average_decay) (parameter - average),  with c = 1 - b^step
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

// The average's line of adamw() alone, to the bit, for elements begin..end: where the average is
// not beside its parameter.
template <class T>
void move_average(T* average, const T* parameter, double average_decay, int64_t begin, int64_t end);

// sum of x[i]^2 over begin..end, in fp64.
template <class T>
double sum_of_squares(const T* x, int64_t begin, int64_t end);

// For chunks begin..end of a list of tensors: each exactly as by itself.
template <class T>
void adamw(const AdamWTensor<T>* tensors, const Chunk* chunks, const AdamWStep& step, double scale,
           int64_t begin, int64_t end);

// partial[i] = the sum of squares of chunk i, for chunks begin..end.
template <class T>
void sum_of_squares(double* partial, const T* const* tensors, const Chunk* chunks, int64_t begin,
                    int64_t end);

// The same on a GPU, each in one launch, a block a chunk. The tables `tensors` and `chunks` lie in
// the device's memory, and nothing is added across chunks: the order of additions is fixed.
void adamw_cuda(const AdamWTensor<float>* tensors, const Chunk* chunks, int64_t num_chunks,
                const AdamWStep& step, double scale, Stream stream);
void sum_of_squares_cuda(double* partial, const float* const* tensors, const Chunk* chunks,
                         int64_t num_chunks, Stream stream);

}  // namespace pendulum::kernels
