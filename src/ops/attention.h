// Attention of one device: softmax(q k^T / sqrt(d)) v, with the log-sum-exp that distributed
// attention merges by.
#pragma once
#include <ATen/core/Tensor.h>

namespace pendulum {

// Legend: B batch, N queries, M keys, H heads, d elements per head. No mask and no causality: every
// query sees every key.

struct AttentionOutput {
  at::Tensor out;  // (B, N, H, d) of q's type
  at::Tensor
      log_sum_exp;  // (B, H, N), fp32 or wider: log of the softmax's denominator, scale included
};

struct AttentionGradients {
  at::Tensor query, key, value;  // shaped as what they are gradients of
};

// Without a graph. query (B, N, H, d); key, value (B, M, H, d); the last dimension contiguous.
AttentionOutput attention_forward(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value);

// Gradients for this block of keys, given the output and log-sum-exp of the attention over *all*
// keys: with those of the whole, the gradients of blocks of keys add up to the gradients of the
// whole.
AttentionGradients attention_backward(const at::Tensor& dout, const at::Tensor& query,
                                      const at::Tensor& key, const at::Tensor& value,
                                      const AttentionOutput& whole);

// The same as a differentiable operation. Returns (B, N, H * d).
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value);

}  // namespace pendulum
