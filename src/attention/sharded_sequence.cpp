// Dealing out and gathering tokens.
#include "attention/sharded_sequence.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Legend: W ranks, B samples, L tokens of a rank, C numbers of a token.
struct AllTokens : torch::autograd::Function<AllTokens> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& own,
                            const SequenceGroup* group, int64_t tokens) {
    const auto s = own.sizes();
    const at::Tensor gathered =
        at::empty({group->width(), s[0], s[1], s[2]}, own.options());  // (W, B, L, C)
    group->members().all_gather(own.contiguous(), gathered).wait();
    context->saved_data["group"] = reinterpret_cast<int64_t>(group);
    return gathered.transpose(0, 1).flatten(1, 2).narrow(1, 0, tokens).contiguous();
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto* group =
        reinterpret_cast<const SequenceGroup*>(context->saved_data["group"].toInt());
    return {own_tokens(gradients[0], *group, 1), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor own_tokens(const at::Tensor& whole, const SequenceGroup& group, int64_t dim) {
  const int64_t tokens = whole.size(dim);
  const int64_t places = group.tokens_per_rank(tokens);
  const int64_t first = std::min(tokens, group.rank() * places);
  const int64_t real = tokens_within(tokens, first, places);
  const at::Tensor part = whole.narrow(dim, first, real);
  if (real == places) return part;
  std::vector<int64_t> padding = part.sizes().vec();
  padding[dim] = places - real;
  return at::cat({part, at::zeros(padding, part.options())}, dim);
}

at::Tensor all_tokens(const at::Tensor& own, const SequenceGroup& group, int64_t tokens) {
  check(own.dim() == 3 && own.size(1) == group.tokens_per_rank(tokens), "(B, ",
        group.tokens_per_rank(tokens), ", C) of ", tokens, " tokens, found ", own.sizes());
  return AllTokens::apply(own, &group, tokens);
}

}  // namespace pendulum
