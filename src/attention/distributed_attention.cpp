// Legend: B samples, L tokens of a rank, U ranks that exchange heads, R blocks in the ring, H
// heads, h = H / U, d elements of a head.
#include "attention/distributed_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "ops/merge_attention.h"
#include "ops/norm_rotary.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t bytes_of(const at::Tensor& x) { return x.numel() * static_cast<int64_t>(x.itemsize()); }

// Part r of `send` is for rank r; part r of `receive` comes from it.
Handle exchange(const at::Tensor& send, const at::Tensor& receive, SequenceGroup& group) {
  const int64_t ranks = group.ulysses().size();
  group.traffic().ulysses += bytes_of(send) / ranks * (ranks - 1);
  return group.ulysses().all_to_all(send, receive);
}

// (..., U, B, L, h, d), the parts of the ranks -> (..., B, U L, h, d), tokens in their order.
// Without a copy for one sample.
at::Tensor joined_tokens(const at::Tensor& parts) {
  return parts.transpose(-5, -4).flatten(-4, -3).contiguous();
}

// Whether token_parts() need not copy; by what all ranks that exchange have alike.
bool lies_in_parts(const at::Tensor& x, int64_t ranks, int64_t places, at::ScalarType type) {
  return x.size(0) == 1 && x.size(1) == ranks * places && x.scalar_type() == type;
}

// The way back, (B, up to U L, h, d) -> (U, B, L, h, d), contiguous and of `type`; rows that `x`
// lacks are zero. Without a copy for one sample that has them all.
at::Tensor token_parts(const at::Tensor& x, int64_t ranks, int64_t places, at::ScalarType type) {
  at::Tensor whole = x.to(type);
  if (x.size(1) != ranks * places) {
    whole = at::zeros({x.size(0), ranks * places, x.size(2), x.size(3)}, whole.options());
    whole.narrow(1, 0, x.size(1)).copy_(x);
  }
  return whole.unflatten(1, {ranks, places}).transpose(0, 1).contiguous();
}

// The same by a copy to `parts`.
void copy_token_parts(const at::Tensor& x, const at::Tensor& parts) {
  const int64_t ranks = parts.size(0), places = parts.size(2);
  if (x.size(1) == ranks * places) {
    parts.copy_(x.unflatten(1, {ranks, places}).transpose(0, 1));
    return;
  }
  parts.zero_();
  for (int64_t r = 0; r * places < x.size(1); ++r) {
    const int64_t rows = std::min(places, x.size(1) - r * places);
    parts[r].narrow(1, 0, rows).copy_(x.narrow(1, r * places, rows));
  }
}

// dealt (3, U, B, L, h, d), by receiver -> (3, B, U L, h, d): all tokens of the block, this rank's
// heads. Keys and values leave first: the ring begins with them.
at::Tensor tokens_for_heads(const at::Tensor& dealt, SequenceGroup& group) {
  if (group.ulysses().size() == 1) return joined_tokens(dealt);
  const at::Tensor received = at::empty_like(dealt);
  std::vector<Handle> handles;
  for (const int64_t i : {1, 2, 0}) handles.push_back(exchange(dealt[i], received[i], group));
  for (Handle& handle : handles) handle.wait();
  return joined_tokens(received);
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
      accumulate_attention(merged, query, here[0].narrow(1, 0, keys), here[1].narrow(1, 0, keys));
    }
    if (!walk.is_last(step)) here = passing.finish();
  }
  return merged;
}

// Of the real tokens of a block, or with zeros in the padding.
using RingGradients = AttentionGradients;

// Keys and values travel as they did forward; the sum of their gradients follows one step behind
// and comes home with the last pass.
RingGradients ring_backward(const at::Tensor& dout, const at::Tensor& query,
                            const at::Tensor& key_value, const AttentionOutput& whole,
                            SequenceGroup& group, const RingWalk& walk) {
  const auto block = [&](const at::Tensor& here, int64_t keys) {
    return attention_backward(dout, query, here[0].narrow(1, 0, keys), here[1].narrow(1, 0, keys),
                              whole);
  };
  if (walk.size == 1) return block(key_value, walk.keys(0));
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
    if (!is_empty) g = block(here, keys);
    if (step > 0) sum = sums.finish();
    if (!is_empty) {
      dquery.add_(g.query);
      sum[0].narrow(1, 0, keys).add_(g.key);
      sum[1].narrow(1, 0, keys).add_(g.value);
    }
    sums.start(sum);
    if (!walk.is_last(step)) here = passing.finish();
  }
  sum = sums.finish();
  return {dquery, sum[0], sum[1]};
}

struct DistributedAttention : torch::autograd::Function<DistributedAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& dealt_in,
                            SequenceGroup* group, int64_t tokens, AttentionTape* tape) {
    const at::Tensor dealt = dealt_in.contiguous();
    const auto s = dealt.sizes();  // (3, U, B, L, h, d)
    const at::Tensor packed = tokens_for_heads(dealt, *group);
    const RingWalk walk(*group, packed.size(2), tokens);
    const at::Tensor q = packed[0].narrow(1, 0, walk.queries());
    const at::Tensor key_value = packed.narrow(0, 1, 2);
    const auto compute = [&] {
      const AttentionOutput merged = ring_forward(q, key_value, *group, walk);
      return AttentionOutput{merged.out.to(q.scalar_type()), merged.log_sum_exp};
    };
    const AttentionOutput whole = tape ? tape->take(compute) : compute();
    context->save_for_backward({q, key_value, whole.out, whole.log_sum_exp});
    context->saved_data["group"] = reinterpret_cast<int64_t>(group);
    context->saved_data["tokens"] = tokens;

    return own_tokens_of(whole.out, s.slice(1), q.scalar_type(), *group)
        .reshape({s[2], s[3], s[1] * s[4] * s[5]});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& q = saved[0];
    const at::Tensor& key_value = saved[1];
    auto& group = *reinterpret_cast<SequenceGroup*>(context->saved_data["group"].toInt());
    const RingWalk walk(group, key_value.size(2), context->saved_data["tokens"].toInt());
    const int64_t ranks = group.ulysses().size();
    const auto s = gradients[0].sizes();  // (B, L, H d)
    const at::Tensor given = gradients[0]
                                 .reshape({s[0], s[1], ranks, q.size(2), q.size(3)})
                                 .permute({2, 0, 1, 3, 4});  // (U, B, L, h, d)
    at::Tensor dout = given;
    if (ranks > 1) {
      const at::Tensor sent =
          group.exchange_memory().sent.take(given.sizes(), given.options()).copy_(given);
      dout = group.exchange_memory().received.take(given.sizes(), given.options());
      exchange(sent, dout, group).wait();
    }
    const RingGradients g = ring_backward(joined_tokens(dout).narrow(1, 0, walk.queries()), q,
                                          key_value, {saved[2], saved[3]}, group, walk);
    return {dealt_gradient({g.query, g.key, g.value}, q.scalar_type(), s[1], group), at::Tensor(),
            at::Tensor(), at::Tensor()};
  }

 private:
  // The output, (B, up to U L, h, d) of all tokens' h heads -> (B, L, U, h, d), own tokens and all
  // heads. `sizes` are (U, B, L, h, d).
  static at::Tensor own_tokens_of(const at::Tensor& out, at::IntArrayRef sizes, at::ScalarType type,
                                  SequenceGroup& group) {
    const std::array<int64_t, 5> by_token{1, 2, 0, 3, 4};
    const int64_t ranks = sizes[0], places = sizes[2];
    if (ranks == 1 || lies_in_parts(out, ranks, places, type)) {
      at::Tensor parts = token_parts(out, ranks, places, type);
      if (ranks > 1) {
        const at::Tensor mine = at::empty_like(parts);
        exchange(parts, mine, group).wait();
        parts = mine;
      }
      return parts.permute(by_token);
    }
    auto& [sent, received] = group.exchange_memory();
    const at::Tensor parts = sent.take(sizes, out.options().dtype(type));
    copy_token_parts(out, parts);
    const at::Tensor mine = received.take(sizes, parts.options());
    exchange(parts, mine, group).wait();
    // A copy in any case: of one token in all, the permuted view is contiguous.
    return mine.permute(by_token).clone(at::MemoryFormat::Contiguous);
  }

  // Each (B, up to U L, h, d) -> (3, U, B, L, h, d), `places` = L.
  static at::Tensor dealt_gradient(const std::vector<at::Tensor>& g, at::ScalarType type,
                                   int64_t places, SequenceGroup& group) {
    const int64_t ranks = group.ulysses().size();
    std::vector<at::Tensor> parts;
    for (const at::Tensor& x : g) parts.push_back(token_parts(x, ranks, places, type));
    if (ranks == 1) return at::stack(parts);
    const at::Tensor dealt =
        at::empty({3, ranks, parts[0].size(1), places, parts[0].size(3), parts[0].size(4)},
                  parts[0].options());
    std::vector<Handle> handles;
    for (int64_t i = 0; i < 3; ++i)
      handles.push_back(exchange(parts[static_cast<size_t>(i)], dealt[i], group));
    for (Handle& handle : handles) handle.wait();
    return dealt;
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
  return distributed_attention(deal_heads({query, key, value}, ulysses), group, tokens, tape);
}

at::Tensor distributed_attention(const at::Tensor& dealt, SequenceGroup& group, int64_t tokens,
                                 AttentionTape* tape) {
  check(dealt.dim() == 6 && dealt.size(0) == 3 && dealt.size(1) == group.ulysses().size() &&
            dealt.size(3) == group.tokens_per_rank(tokens),
        "query, key and value (3, ", group.ulysses().size(), ", B, ", group.tokens_per_rank(tokens),
        ", h, d) of ", tokens, " tokens on ", group.width(), " ranks, found ", dealt.sizes());
  return DistributedAttention::apply(dealt, &group, tokens, tape);
}

}  // namespace pendulum
