// Attention of one device: softmax(q k^T / sqrt(d)) v, with the log-sum-exp that distributed
// attention merges by.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

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

// The results of the attentions of a forward pass, in their order: what activation checkpointing
// keeps while it computes everything else a second time.
class AttentionTape {
 public:
  // `compute()` the first time, and what that gave when the pass is made again.
  template <class Compute>
  AttentionOutput take(const Compute& compute) {
    if (is_replayed_) return kept_.at(next_++);
    kept_.push_back(compute());
    return kept_.back();
  }
  // From now on a second pass.
  void replay() {
    is_replayed_ = true;
    next_ = 0;
  }

 private:
  std::vector<AttentionOutput> kept_;
  size_t next_ = 0;
  bool is_replayed_ = false;
};

// The same as a differentiable operation. Returns (B, N, H * d). With a tape the result is taken
// from it.
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     AttentionTape* tape = nullptr);

}  // namespace pendulum
