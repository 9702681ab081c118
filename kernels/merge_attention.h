// Attention over blocks of keys, put together: each block's output weighs as much as its share of
// the softmax's denominator.
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

struct MergeAttentionSizes {
  int64_t batch = 1;
  int64_t queries = 1;
  int64_t heads = 1;
  int64_t head_dim = 1;
};

// For rows begin..end of batch * queries * heads: adds a block's part to what is merged so far.
//   merged, part (batch, queries, heads, head_dim); log_sum_exp, part_log_sum_exp (batch, heads,
//   queries)
// A log-sum-exp of -infinity stands for no keys: so a merge begins, and so a block without keys
// changes nothing. Stable at any size: only differences are exponentiated, and none is positive.
template <class T>
void merge_attention(T* merged, T* log_sum_exp, const T* part, const T* part_log_sum_exp,
                     const MergeAttentionSizes& sizes, int64_t begin, int64_t end);

// On a GPU: sums in fp32, T of the part is float or bf16; head_dim a multiple of 4.
template <class T>
void merge_attention_cuda(float* merged, float* log_sum_exp, const T* part,
                          const float* part_log_sum_exp, const MergeAttentionSizes& sizes,
                          Stream stream);

}  // namespace pendulum::kernels
