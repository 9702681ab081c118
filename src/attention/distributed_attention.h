// Attention over a sequence whose tokens lie on several ranks, exact forward and backward.
//
// Ulysses (Jacobs et al., arXiv 2309.14509) inside a block of U neighbours: an all-to-all turns L
// tokens of H heads into U L tokens of H / U heads. Ring attention (Liu et al., arXiv 2310.01889)
// over R blocks: keys and values travel round, partial outputs and the gradients that travel with
// their keys are summed in fp32, or in the input's type if that is wider.
#pragma once
#include <ATen/core/Tensor.h>

#include "attention/sequence_group.h"
#include "ops/attention.h"

namespace pendulum {

// query, key, value: (B, L, H, d), this rank's L = group.tokens_per_rank(tokens) places of the
// sequence, of which those beyond `tokens` are padding: never read, zero in the result and in the
// gradients. Returns (B, L, H * d). U divides H (ConfigError). Every rank of the group calls it,
// and later its backward pass; the group outlives the graph. With a tape (ops/attention.h) the ring
// is not walked a second time.
at::Tensor distributed_attention(const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, SequenceGroup& group, int64_t tokens,
                                 AttentionTape* tape = nullptr);

// The same of all three as norm_rotary_dealt() writes them for group.ulysses().size() ranks, (3, U,
// B, L, H / U, d): they leave as they lie there.
at::Tensor distributed_attention(const at::Tensor& dealt, SequenceGroup& group, int64_t tokens,
                                 AttentionTape* tape = nullptr);

}  // namespace pendulum
