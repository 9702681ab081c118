// Puts attention over blocks of keys together, as ring attention gets it.
#pragma once
#include <ATen/core/Tensor.h>

#include "ops/attention.h"

namespace pendulum {

// Nothing merged yet for queries like `query` (B, N, H, d): output zero, log-sum-exp -infinity,
// both fp32 or of the query's type if that is wider.
AttentionOutput empty_attention(const at::Tensor& query);

// Adds the attention of the same queries over another block of keys, in place. No graph. A part
// whose log-sum-exp is -infinity has no keys and is not read.
void merge_attention(const AttentionOutput& merged, const AttentionOutput& part);
// The same from ATen's operators, for any types: what merge_attention() does on a GPU where there
// is no kernel.
void merge_attention_plainly(const AttentionOutput& merged, const AttentionOutput& part);

// The same from the block of keys and values itself (B, M, H, d): in one pass where there is a
// kernel for it, else by attention_forward() and a merge. On a GPU the kernel is taken where cuDNN
// has none.
void accumulate_attention(const AttentionOutput& merged, const at::Tensor& query,
                          const at::Tensor& key, const at::Tensor& value);

}  // namespace pendulum
