// Attention over one block of keys added to earlier ones, for Hopper GPUs;
// accumulate_attention_cuda (attention.h) calls it where it can.
#pragma once
#include "kernels/attention.h"

namespace pendulum::kernels {

// Whether this program has the kernel, the current device can run it (compute capability 9.x), and
// the TMA can address the operands: strides above 0 and below 2^40 bytes, fewer than 2^31 tokens.
bool accumulate_attention_hopper_takes(TokensView<const bf16> query, TokensView<const bf16> key,
                                       TokensView<const bf16> value, const AttentionSizes& sizes);

// As accumulate_attention_cuda, whose checks it relies on.
void accumulate_attention_hopper(TokensView<float> merged, float* log_sum_exp,
                                 TokensView<const bf16> query, TokensView<const bf16> key,
                                 TokensView<const bf16> value, const AttentionSizes& sizes,
                                 Stream stream);

}  // namespace pendulum::kernels
