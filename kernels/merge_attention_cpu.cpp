// Merging of partial attention on the CPU.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/merge_attention.h"

namespace pendulum::kernels {

template <class T>
void merge_attention(T* merged, T* log_sum_exp, const T* part, const T* part_log_sum_exp,
                     const MergeAttentionSizes& sizes, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t head = row % sizes.heads;
    const int64_t query = row / sizes.heads % sizes.queries;
    const int64_t batch = row / sizes.heads / sizes.queries;
    const int64_t statistic = (batch * sizes.heads + head) * sizes.queries + query;
    const T before = log_sum_exp[statistic];
    const T added = part_log_sum_exp[statistic];
    if (added == -std::numeric_limits<T>::infinity()) continue;
    const T whole = std::max(before, added) + std::log1p(std::exp(-std::abs(before - added)));
    const T keep = std::exp(before - whole);
    const T take = std::exp(added - whole);
    T* __restrict to = merged + row * sizes.head_dim;
    const T* __restrict from = part + row * sizes.head_dim;
#pragma omp simd
    for (int64_t j = 0; j < sizes.head_dim; ++j) to[j] = to[j] * keep + from[j] * take;
    log_sum_exp[statistic] = whole;
  }
}

template void merge_attention(float*, float*, const float*, const float*,
                              const MergeAttentionSizes&, int64_t, int64_t);
template void merge_attention(double*, double*, const double*, const double*,
                              const MergeAttentionSizes&, int64_t, int64_t);

}  // namespace pendulum::kernels
