// Attention on a GPU: cuDNN where it has a plan, else PyTorch's flash attention, and plain matrix
// products for types wider than bf16 and for heads that neither takes. Only in builds with
// PENDULUM_CUDA.
#pragma once
#include <ATen/core/Tensor.h>

#include "ops/attention.h"

namespace pendulum {

// As attention_forward() and attention_backward() of ops/attention.h, for tensors on a GPU.
AttentionOutput cuda_attention_forward(const at::Tensor& query, const at::Tensor& key,
                                       const at::Tensor& value);
AttentionGradients cuda_attention_backward(const at::Tensor& dout, const at::Tensor& query,
                                           const at::Tensor& key, const at::Tensor& value,
                                           const AttentionOutput& whole);

// Adds a block of keys to `merged` by our own kernel; false where cuDNN and a merge are faster, or
// where there is no kernel for such tensors: nothing is done then.
bool cuda_accumulate_attention(const AttentionOutput& merged, const at::Tensor& query,
                               const at::Tensor& key, const at::Tensor& value);

}  // namespace pendulum
