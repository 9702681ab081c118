// AdamW and the sum of squares on the CPU.
#include "kernels/adamw.h"

#include <cmath>

namespace pendulum::kernels {

template <class T>
void adamw(const AdamWTensor<T>& tensor, const AdamWStep& step, double scale, int64_t begin,
           int64_t end) {
  const T grad_scale = static_cast<T>(scale);
  const T beta1 = static_cast<T>(step.beta1);
  const T rest1 = static_cast<T>(1 - step.beta1);
  const T beta2 = static_cast<T>(step.beta2);
  const T rest2 = static_cast<T>(1 - step.beta2);
  const double correction1 = 1 - std::pow(step.beta1, static_cast<double>(step.step));
  const double correction2 = 1 - std::pow(step.beta2, static_cast<double>(step.step));
  const T move = static_cast<T>(step.rate / correction1);
  const T root = static_cast<T>(1 / std::sqrt(correction2));
  const T eps = static_cast<T>(step.eps);
  const T keep = static_cast<T>(1 - step.rate * tensor.decay);
  const T pull = static_cast<T>(1 - step.average_decay);
  T* __restrict p = tensor.parameter;
  const T* __restrict g = tensor.gradient;
  T* __restrict m = tensor.first;
  T* __restrict v = tensor.second;
  T* __restrict a = tensor.average;
  const auto update = [&](int64_t i) {
    const T gradient = g[i] * grad_scale;
    m[i] = beta1 * m[i] + rest1 * gradient;
    v[i] = beta2 * v[i] + rest2 * gradient * gradient;
    p[i] = p[i] * keep - move * m[i] / (std::sqrt(v[i]) * root + eps);
  };
  if (a == nullptr) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) update(i);
    return;
  }
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    update(i);
    a[i] += pull * (p[i] - a[i]);
  }
}

template <class T>
double sum_of_squares(const T* x, int64_t begin, int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; ++i) {
    const double value = static_cast<double>(x[i]);
    sum += value * value;
  }
  return sum;
}

template <class T>
void adamw(const AdamWTensor<T>* tensors, const Chunk* chunks, const AdamWStep& step, double scale,
           int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    adamw(tensors[chunks[i].tensor], step, scale, chunks[i].begin, chunks[i].end);
}

template <class T>
void sum_of_squares(double* partial, const T* const* tensors, const Chunk* chunks, int64_t begin,
                    int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    partial[i] = sum_of_squares(tensors[chunks[i].tensor], chunks[i].begin, chunks[i].end);
}

template void adamw(const AdamWTensor<float>&, const AdamWStep&, double, int64_t, int64_t);
template void adamw(const AdamWTensor<double>&, const AdamWStep&, double, int64_t, int64_t);
template void adamw(const AdamWTensor<float>*, const Chunk*, const AdamWStep&, double, int64_t,
                    int64_t);
template void adamw(const AdamWTensor<double>*, const Chunk*, const AdamWStep&, double, int64_t,
                    int64_t);
template double sum_of_squares(const float*, int64_t, int64_t);
template double sum_of_squares(const double*, int64_t, int64_t);
template void sum_of_squares(double*, const float* const*, const Chunk*, int64_t, int64_t);
template void sum_of_squares(double*, const double* const*, const Chunk*, int64_t, int64_t);

}  // namespace pendulum::kernels
