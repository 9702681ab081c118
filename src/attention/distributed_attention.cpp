// Legend: B samples, L tokens of a rank, U ranks that exchange heads, R blocks in the ring, H
// heads, h = H / U, d elements of a head, C tensors that travel together.
#include "attention/distributed_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "ops/merge_attention.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t bytes_of(const at::Tensor& x) { return x.numel() * static_cast<int64_t>(x.itemsize()); }

at::Tensor all_to_all(const at::Tensor& send, SequenceGroup& group) {
  at::Tensor receive = at::empty_like(send);
  group.ulysses().all_to_all(send, receive).wait();
  const int64_t ranks = group.ulysses().size();
  group.traffic().ulysses += bytes_of(send) / ranks * (ranks - 1);
  return receive;
}

// (C, B, L, H, d) -> (C, B, U L, h, d): all tokens of the block, this rank's heads.
at::Tensor tokens_for_heads(const at::Tensor& x, SequenceGroup& group) {
  const int64_t u = group.ulysses().size();
  if (u == 1) return x;
  const auto s = x.sizes();
  const at::Tensor send = x.view({s[0], s[1], s[2], u, s[3] / u, s[4]})
                              .permute({3, 0, 1, 2, 4, 5})
                              .contiguous();  // (U, C, B, L, h, d)
  return all_to_all(send, group)
      .permute({1, 2, 0, 3, 4, 5})
      .reshape({s[0], s[1], u * s[2], s[3] / u, s[4]});
}

// The way back: (C, B, U L, h, d) -> (C, B, L, H, d).
at::Tensor heads_for_tokens(const at::Tensor& x, SequenceGroup& group) {
  const int64_t u = group.ulysses().size();
  if (u == 1) return x;
  const auto s = x.sizes();
  const at::Tensor send = x.view({s[0], s[1], u, s[2] / u, s[3], s[4]})
                              .permute({2, 0, 1, 3, 4, 5})
                              .contiguous();  // (U, C, B, L, h, d)
  return all_to_all(send, group)
      .permute({1, 2, 3, 0, 4, 5})
      .reshape({s[0], s[1], s[2] / u, u * s[3], s[4]});
}

// A block that stands still for a step while it is on its way to the next rank.
class Passing {
 public:
  explicit Passing(SequenceGroup& group) : group_(group) {}
  void start(const at::Tensor& block) {
    Communicator& ring = group_.ring();
    arriving_ = at::empty_like(block);
    leaving_ = block;  // belongs to the call until finish()
    const int next = (ring.rank() + 1) % ring.size();
    const int previous = (ring.rank() + ring.size() - 1) % ring.size();
    handle_ = ring.send_recv(block, next, arriving_, previous);
    group_.traffic().ring += bytes_of(block);
  }
  at::Tensor finish() {
    handle_.wait();
    leaving_.reset();
    return arriving_;
  }

 private:
  SequenceGroup& group_;
  at::Tensor leaving_, arriving_;
  Handle handle_;
};

// What a rank's blocks mean at one step of the ring.
struct RingWalk {
  RingWalk(const SequenceGroup& group, int64_t block_tokens, int64_t tokens)
      : rank(group.ring().rank()), size(group.ring().size()), block(block_tokens), all(tokens) {}
  // Real tokens of the block that is here after `step` passes.
  int64_t keys(int step) const {
    return tokens_within(all, static_cast<int64_t>((rank - step + size) % size) * block, block);
  }
  int64_t queries() const { return keys(0); }
  bool is_last(int step) const { return step + 1 == size; }
  const int rank, size;
  const int64_t block, all;
};

// query (B, n, h, d), n real tokens; key_value (2, B, U L, h, d).
AttentionOutput ring_forward(const at::Tensor& query, const at::Tensor& key_value,
                             SequenceGroup& group, const RingWalk& walk) {
  if (walk.size == 1)
    return attention_forward(query, key_value[0].narrow(1, 0, walk.keys(0)),
                             key_value[1].narrow(1, 0, walk.keys(0)));
  const AttentionOutput merged = empty_attention(query);
  Passing passing(group);
  at::Tensor here = key_value;
  for (int step = 0; step < walk.size; ++step) {
    if (!walk.is_last(step)) passing.start(here);
    const int64_t keys = walk.keys(step);
    if (keys > 0 && query.size(1) > 0) {
      merge_attention(
          merged, attention_forward(query, here[0].narrow(1, 0, keys), here[1].narrow(1, 0, keys)));
    }
    if (!walk.is_last(step)) here = passing.finish();
  }
  return merged;
}

struct RingGradients {
  at::Tensor query;      // (B, n, h, d)
  at::Tensor key_value;  // (2, B, U L, h, d), zero in the padding
};

// Keys and values travel as they did forward; the sum of their gradients follows one step behind
// and comes home with the last pass.
RingGradients ring_backward(const at::Tensor& dout, const at::Tensor& query,
                            const at::Tensor& key_value, const AttentionOutput& whole,
                            SequenceGroup& group, const RingWalk& walk) {
  const auto wide = query.options().dtype(at::promote_types(query.scalar_type(), at::kFloat));
  const at::Tensor dquery = at::zeros(query.sizes(), wide);
  at::Tensor sum = at::zeros(key_value.sizes(), wide);
  Passing passing(group), sums(group);
  at::Tensor here = key_value;
  for (int step = 0; step < walk.size; ++step) {
    if (!walk.is_last(step)) passing.start(here);
    const int64_t keys = walk.keys(step);
    AttentionGradients g;
    const bool is_empty = keys == 0 || query.size(1) == 0;
    if (!is_empty) {
      g = attention_backward(dout, query, here[0].narrow(1, 0, keys), here[1].narrow(1, 0, keys),
                             whole);
    }
    if (step > 0) sum = sums.finish();
    if (!is_empty) {
      dquery.add_(g.query);
      sum[0].narrow(1, 0, keys).add_(g.key);
      sum[1].narrow(1, 0, keys).add_(g.value);
    }
    if (walk.size > 1) sums.start(sum);
    if (!walk.is_last(step)) here = passing.finish();
  }
  if (walk.size > 1) sum = sums.finish();
  return {dquery, sum};
}

struct DistributedAttention : torch::autograd::Function<DistributedAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& query,
                            const at::Tensor& key, const at::Tensor& value, SequenceGroup* group,
                            int64_t tokens, AttentionTape* tape) {
    const auto sizes = query.sizes();
    const at::Tensor packed =
        tokens_for_heads(at::stack({query, key, value}), *group);  // (3, B, U L, h, d)
    const RingWalk walk(*group, packed.size(2), tokens);
    const at::Tensor q = packed[0].narrow(1, 0, walk.queries());
    const at::Tensor key_value = packed.narrow(0, 1, 2).contiguous();
    const auto compute = [&] {
      const AttentionOutput merged = ring_forward(q, key_value, *group, walk);
      return AttentionOutput{merged.out.to(query.scalar_type()), merged.log_sum_exp};
    };
    const AttentionOutput whole = tape ? tape->take(compute) : compute();
    context->save_for_backward({q, key_value, whole.out, whole.log_sum_exp});
    context->saved_data["group"] = reinterpret_cast<int64_t>(group);
    context->saved_data["tokens"] = tokens;

    at::Tensor padded = at::zeros(packed[0].sizes(), query.options());
    padded.narrow(1, 0, walk.queries()).copy_(whole.out);
    return heads_for_tokens(padded.unsqueeze(0), *group)
        .reshape({sizes[0], sizes[1], sizes[2] * sizes[3]});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& q = saved[0];
    const at::Tensor& key_value = saved[1];
    auto& group = *reinterpret_cast<SequenceGroup*>(context->saved_data["group"].toInt());
    const RingWalk walk(group, key_value.size(2), context->saved_data["tokens"].toInt());
    const int64_t heads = q.size(2) * group.ulysses().size();
    const auto s = gradients[0].sizes();
    const at::Tensor dout = tokens_for_heads(
        gradients[0].contiguous().view({1, s[0], s[1], heads, q.size(3)}), group)[0];
    const RingGradients g = ring_backward(dout.narrow(1, 0, walk.queries()), q, key_value,
                                          {saved[2], saved[3]}, group, walk);

    const auto pair = key_value.sizes();  // (2, B, U L, h, d)
    at::Tensor packed = at::zeros({3, pair[1], pair[2], pair[3], pair[4]}, q.options());
    packed[0].narrow(1, 0, walk.queries()).copy_(g.query);
    packed.narrow(0, 1, 2).copy_(g.key_value);
    const at::Tensor local = heads_for_tokens(packed, group);
    return {local[0], local[1], local[2], at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor distributed_attention(const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, SequenceGroup& group, int64_t tokens,
                                 AttentionTape* tape) {
  check(query.dim() == 4 && key.sizes() == query.sizes() && value.sizes() == query.sizes() &&
            query.size(1) == group.tokens_per_rank(tokens),
        "query, key and value (B, ", group.tokens_per_rank(tokens), ", H, d) of ", tokens,
        " tokens on ", group.width(), " ranks, found ", query.sizes(), ", ", key.sizes(), ", ",
        value.sizes());
  const int ulysses = group.ulysses().size();
  if (query.size(2) % ulysses != 0) {
    throw ConfigError(text("a Ulysses part of ", ulysses, " does not divide ", query.size(2),
                           " heads; ", ulysses_part(group.width(), query.size(2)),
                           " is the largest that does for ", group.width(), " ranks"));
  }
  return DistributedAttention::apply(query, key, value, &group, tokens, tape);
}

}  // namespace pendulum
