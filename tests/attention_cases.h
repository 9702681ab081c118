// What attention over several ranks must do on every communicator: equal one rank, read no padding,
// send what the formulas say.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

#include "attention/distributed_attention.h"
#include "core/random.h"
#include "ops/attention.h"

namespace pendulum {

struct AttentionCase {
  int64_t batch = 2, tokens = 37, heads = 4, head_dim = 16;
  at::ScalarType type = at::kDouble;
  double shift = 0;  // of every score: its log-sum-exp lies about there
  at::Device device = at::kCPU;
};

// query, key, value, and the gradient of the result: the same numbers on all ranks.
inline std::vector<at::Tensor> attention_inputs(const AttentionCase& c) {
  std::vector<at::Tensor> out;
  for (uint64_t i = 0; i < 4; ++i) {
    at::Tensor x = at::empty({c.batch, c.tokens, c.heads, c.head_dim}, at::kFloat);
    fill_normal(x.data_ptr<float>(), x.numel(), draw(i, 77));
    out.push_back(x);
  }
  // One element of every query and key: their product alone moves all scores.
  if (c.shift != 0) {
    const double root = std::sqrt(std::abs(c.shift) * std::sqrt(static_cast<double>(c.head_dim)));
    out[0].select(3, 0).fill_(root);
    out[1].select(3, 0).fill_(c.shift > 0 ? root : -root);
  }
  for (at::Tensor& x : out) x = x.to(c.device, c.type);
  return out;
}

// Output and gradients (B, S, H, d) by plain softmax in fp64, of the inputs as they are.
inline std::vector<at::Tensor> exact_attention(const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> leaf;
  for (int i = 0; i < 3; ++i)
    leaf.push_back(inputs[i].to(at::kDouble).transpose(1, 2).detach().requires_grad_(true));
  const double scale = 1 / std::sqrt(static_cast<double>(inputs[0].size(3)));
  const at::Tensor scores = at::matmul(leaf[0], leaf[1].transpose(2, 3)) * scale;
  const at::Tensor out = at::matmul(at::softmax(scores, -1), leaf[2]);
  out.backward(inputs[3].to(at::kDouble).transpose(1, 2));
  std::vector<at::Tensor> results{out.detach().transpose(1, 2)};
  for (const at::Tensor& x : leaf) results.push_back(x.grad().transpose(1, 2));
  return results;
}

// The largest sum of absolute terms of each result: what a relative error of the softmax's weights
// makes of it.
inline std::vector<double> sums_of_terms(const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> x;
  for (const at::Tensor& input : inputs) x.push_back(input.to(at::kDouble).transpose(1, 2));
  const double scale = 1 / std::sqrt(static_cast<double>(inputs[0].size(3)));
  const at::Tensor weights = at::softmax(at::matmul(x[0], x[1].transpose(2, 3)) * scale, -1);
  const at::Tensor dweights = at::matmul(x[3], x[2].transpose(2, 3));
  const at::Tensor mean = (weights * dweights).sum(-1, true);
  const at::Tensor dscores = weights * (dweights - mean).abs() * scale;
  const auto largest = [](const at::Tensor& sums) { return sums.max().item<double>(); };
  return {largest(at::matmul(weights, x[2].abs())), largest(at::matmul(dscores, x[1].abs())),
          largest(at::matmul(dscores.transpose(2, 3), x[0].abs())),
          largest(at::matmul(weights.transpose(2, 3), x[3].abs()))};
}

inline std::vector<at::Tensor> run_attention(
    const std::vector<at::Tensor>& inputs,
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& attend) {
  std::vector<at::Tensor> leaf;
  for (int i = 0; i < 3; ++i) leaf.push_back(inputs[i].detach().clone().requires_grad_(true));
  const at::Tensor out = attend(leaf);
  out.backward(inputs[3].flatten(2));
  std::vector<at::Tensor> results{out.detach().view(inputs[0].sizes())};
  for (const at::Tensor& x : leaf) results.push_back(x.grad());
  return results;
}

// The largest error of each result.
inline std::vector<double> errors(const std::vector<at::Tensor>& found,
                                  const std::vector<at::Tensor>& exact) {
  std::vector<double> out;
  for (size_t i = 0; i < exact.size(); ++i) {
    const at::Tensor difference = (found[i].to(at::kDouble) - exact[i]).abs();
    out.push_back(difference.numel() == 0 ? 0 : difference.max().item<double>());
  }
  return out;
}

// This rank's places of x (B, S, H, d); what lies beyond S is NaN, so that reading it shows.
inline at::Tensor shard(const at::Tensor& x, int64_t rank, int64_t per_rank) {
  at::Tensor out = at::full({x.size(0), per_rank, x.size(2), x.size(3)},
                            std::numeric_limits<double>::quiet_NaN(), x.options());
  const int64_t real = tokens_within(x.size(1), rank * per_rank, per_rank);
  if (real > 0) out.narrow(1, 0, real).copy_(x.narrow(1, rank * per_rank, real));
  return out;
}

// Output and gradients of this rank's real tokens; the padding's are checked to be zero.
inline std::vector<at::Tensor> shards_of_attention(Communicator& members, SequenceGroup& group,
                                                   const AttentionCase& c,
                                                   const std::vector<at::Tensor>& inputs) {
  const int64_t per_rank = group.tokens_per_rank(c.tokens);
  std::vector<at::Tensor> local;
  for (const at::Tensor& x : inputs) local.push_back(shard(x, members.rank(), per_rank));
  auto results = run_attention(local, [&](const std::vector<at::Tensor>& x) {
    // Ranks are never in step: each comes a little later than the one before.
    std::this_thread::sleep_for(std::chrono::microseconds(300 * members.rank()));
    return distributed_attention(x[0], x[1], x[2], group, c.tokens);
  });
  const int64_t real = tokens_within(c.tokens, members.rank() * per_rank, per_rank);
  for (at::Tensor& x : results) {
    EXPECT_TRUE(at::equal(x.narrow(1, real, per_rank - real),
                          at::zeros_like(x.narrow(1, real, per_rank - real))))
        << "padding is not zero";
    x = x.narrow(1, 0, real);
  }
  return results;
}

inline std::vector<at::Tensor> real_shards(const std::vector<at::Tensor>& whole, int64_t rank,
                                           int64_t per_rank) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& x : whole) {
    const int64_t real = tokens_within(x.size(1), rank * per_rank, per_rank);
    out.push_back(x.narrow(1, std::min(rank * per_rank, x.size(1)), real));
  }
  return out;
}

// fp64: 1e-12 of the largest number. Narrower: twice the error of one rank in the same type, which
// also rounds its result to it, four roundings of the largest number, and, where the log-sum-exp is
// far from zero, one rounding of it a merge: the backward pass's weights carry it.
inline void check_attention(Communicator& members, int ulysses, const AttentionCase& c) {
  SequenceGroup group(members, ulysses);
  const auto inputs = attention_inputs(c);
  const auto exact = exact_attention(inputs);
  const auto terms = sums_of_terms(inputs);
  const auto alone = run_attention(
      inputs, [](const std::vector<at::Tensor>& x) { return attention(x[0], x[1], x[2]); });
  const auto alone_errors = errors(alone, exact);
  const auto found = shards_of_attention(members, group, c, inputs);
  const auto found_errors =
      errors(found, real_shards(exact, members.rank(), group.tokens_per_rank(c.tokens)));
  for (size_t i = 0; i < exact.size(); ++i) {
    const double largest = exact[i].abs().max().item<double>();
    const double eps = c.type == at::kBFloat16 ? 0x1p-8 : 0x1p-23;
    const double merging = group.ring().size() * std::abs(c.shift) * 0x1p-24 * terms[i];
    const double bound = c.type == at::kDouble ? 1e-12 * std::max(1.0, largest)
                                               : 2 * alone_errors[i] + 4 * eps * largest + merging;
    EXPECT_LE(found_errors[i], bound)
        << "result " << i << ", rank " << members.rank() << " of " << members.size() << ", U "
        << ulysses << ", tokens " << c.tokens << ", shift " << c.shift;
  }
}

// Bytes sent per rank and layer, S / P = L tokens of a rank, D = H d, e bytes an element:
//   Ulysses 4 L D e (U - 1) / U forward, as much backward; ring 2 (S / R) (D / U) e (R - 1)
//   forward, the same and 2 (S / R) (D / U) e' R backward, where e' is the gradients' element.
inline void check_traffic(Communicator& members, int ulysses, const AttentionCase& c) {
  SequenceGroup group(members, ulysses);
  shards_of_attention(members, group, c, attention_inputs(c));
  const int64_t u = ulysses, r = members.size() / u;
  const int64_t local = c.batch * group.tokens_per_rank(c.tokens) * c.heads * c.head_dim;
  const int64_t e = c.type == at::kBFloat16 ? 2 : c.type == at::kFloat ? 4 : 8;
  const int64_t wide = c.type == at::kBFloat16 ? 4 : e;
  EXPECT_EQ(group.traffic().ulysses, 2 * 4 * local * e / u * (u - 1));
  EXPECT_EQ(group.traffic().ring, r == 1 ? 0 : 2 * local * (2 * e * (r - 1) + wide * r));
}

// Every factorisation of the group's size whose Ulysses part divides the heads.
inline void check_all_layouts(Communicator& members, const AttentionCase& c) {
  for (int u = 1; u <= members.size(); ++u) {
    if (members.size() % u == 0 && c.heads % u == 0) check_attention(members, u, c);
  }
}

}  // namespace pendulum
