// A sequence dealt out over the ranks of a group: every rank's own tokens, and the whole again.
//
// What all ranks hold alike (weights, text, the loss of the whole) is replicated. The convention of
// its gradients: each rank holds the part that flows through its own tokens, and the sum over the
// group is the gradient.
#pragma once
#include <ATen/core/Tensor.h>

#include "attention/sequence_group.h"

namespace pendulum {

// This rank's group.tokens_per_rank(N) places of `whole`, whose dimension `dim` holds N tokens;
// zeros where they are padding.
at::Tensor own_tokens(const at::Tensor& whole, const SequenceGroup& group, int64_t dim);

// own (B, tokens_per_rank(tokens), C) of every rank -> (B, tokens, C), the same on all. Backward:
// this rank's places of the gradient, which all ranks hold alike. Collective forward; the group
// outlives the graph.
at::Tensor all_tokens(const at::Tensor& own, const SequenceGroup& group, int64_t tokens);

}  // namespace pendulum
