// AdamW and the sum of squares on the CPU.
#include "kernels/adamw.h"

#include "kernels/adamw_update.h"

namespace pendulum::kernels {

template <class T>
void adamw(const AdamWTensor<T>& tensor, const AdamWStep& step, double scale, int64_t begin,
           int64_t end) {
  const AdamWFactors<T> f = factors_of<T>(step, scale);
  const T keep = share_kept(tensor.decay, f);
  T* __restrict p = tensor.parameter;
  const T* __restrict g = tensor.gradient;
  T* __restrict m = tensor.first;
  T* __restrict v = tensor.second;
  T* __restrict a = tensor.average;
  if (a == nullptr) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) update(p[i], g[i], m[i], v[i], keep, f);
    return;
  }
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    update(p[i], g[i], m[i], v[i], keep, f);
    a[i] += f.pull * (p[i] - a[i]);
  }
}

template <class T>
void move_average(T* average, const T* parameter, double average_decay, int64_t begin,
                  int64_t end) {
  const T pull = static_cast<T>(1 - average_decay);
  T* __restrict a = average;
  const T* __restrict p = parameter;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) a[i] += pull * (p[i] - a[i]);
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
template void move_average(float*, const float*, double, int64_t, int64_t);
template void move_average(double*, const double*, double, int64_t, int64_t);
template double sum_of_squares(const float*, int64_t, int64_t);
template double sum_of_squares(const double*, int64_t, int64_t);
template void sum_of_squares(double*, const float* const*, const Chunk*, int64_t, int64_t);
template void sum_of_squares(double*, const double* const*, const Chunk*, int64_t, int64_t);

}  // namespace pendulum::kernels
