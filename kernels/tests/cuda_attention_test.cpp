// Attention on a GPU, our kernel and cuDNN's, against plain loops in fp64. Skipped where there is
// no device.
#include <gtest/gtest.h>

#include "attention_reference.h"
#include "device.h"
#include "kernels/attention.h"
#ifdef PENDULUM_CUDNN
#include "kernels/cudnn_attention.h"
#endif

namespace pendulum::kernels {
namespace {

using CudaAttention = CudaTest;

std::vector<double> wide(const Values& x) { return {x.begin(), x.end()}; }

// Random bf16 numbers; one element of every head is moved by `shift`.
Values numbers(int64_t count, uint64_t seed, int64_t head_dim, float shift) {
  return rounded<bf16>(shifted_values(count, seed, head_dim, shift));
}

// A softmax's weights are rounded to bf16 before they meet the values, half a unit in the last of 8
// bits each, in a sum whose weights add up to 1; each block of keys adds some roundings of fp32,
// and so does a score of the size of the shift. An output that is bf16 is rounded once more.
double bound_of(const std::vector<double>& values, double blocks, double shift, bool narrow) {
  double largest = 0;
  for (const double v : values) largest = std::max(largest, std::abs(v));
  return largest * ((narrow ? 2 : 1) * 0x1p-8 + blocks * (64 + 4 * shift * shift) * 0x1p-23);
}

struct AccumulateCase {
  AttentionSizes sizes;  // with all keys
  std::vector<int64_t> blocks;
  float shift = 0;
  int64_t gap = 0;  // elements between tokens
};

void check_accumulate(const AccumulateCase& c, AccumulateKernel kernel) {
  const AttentionSizes& s = c.sizes;
  const int64_t token = s.heads * s.head_dim;
  const Values q = numbers(s.batch * s.queries * token, 1, s.head_dim, c.shift);
  const Values k = numbers(s.batch * s.keys * token, 2, s.head_dim, std::abs(c.shift));
  const Values v = numbers(s.batch * s.keys * token, 3, s.head_dim, 0);
  const auto exact = plain_attention(wide(q), wide(k), wide(v), wide(q), s);
  const int64_t rows = s.batch * s.heads * s.queries;
  const auto view = [&](auto* data, int64_t tokens) { return spread(data, tokens, s, c.gap); };
  // NaN: not read by the first block.
  Device<float> merged(s.batch * view(q.data(), s.queries).batch_stride);
  Device<float> log_sum_exp(Values(rows, -std::numeric_limits<float>::infinity()));
  Device<bf16> d_q(spread(q, s, c.gap));
  int64_t first = 0;
  for (const int64_t keys : c.blocks) {
    AttentionSizes block = s;
    block.keys = keys;
    Device<bf16> d_k(spread(block_of(k, first, keys, s), s, c.gap));
    Device<bf16> d_v(spread(block_of(v, first, keys, s), s, c.gap));
    const auto operand = [&](Device<bf16>& x, int64_t tokens) {
      return view(static_cast<const bf16*>(x.data()), tokens);
    };
    accumulate_attention_cuda(view(merged.data(), s.queries), log_sum_exp.data(),
                              operand(d_q, s.queries), operand(d_k, keys), operand(d_v, keys),
                              block, nullptr, kernel);
    first += keys;
  }
  const auto count = static_cast<double>(c.blocks.size());
  EXPECT_LE(worst_error(gathered(merged.values(), s.queries, s, c.gap), exact.out),
            bound_of(exact.out, count, c.shift, false))
      << s.queries << " x " << s.keys << ", shift " << c.shift;
  EXPECT_LE(worst_error(log_sum_exp.values(), exact.log_sum_exp),
            count * (64 + 4 * c.shift * c.shift) * 0x1p-23);
}

// Tiles are of 128 queries and 64 keys in the one kernel; of 192 and 128 or, with heads of 128, 128
// and 176 in Hopper's. Counts beside all of these, one, and primes.
void check_accumulate_cases(AccumulateKernel kernel) {
  for (const int64_t head_dim : {64, 128}) {
    const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
    check_accumulate({{1, 1, 1, 1, head_dim, scale}, {1}}, kernel);
    check_accumulate({{2, 129, 191, 3, head_dim, scale}, {63, 1, 127}}, kernel);
    check_accumulate({{1, 257, 450, 2, head_dim, scale}, {64, 65, 321}}, kernel);
    check_accumulate({{2, 193, 705, 2, head_dim, scale}, {176, 352, 177}, 0, 24}, kernel);
    // More tiles of queries than a GPU has processors.
    check_accumulate({{1, 129, 190, 150, head_dim, scale}, {190}}, kernel);
    // Log-sum-exps about -100 and 100.
    const float shift = 10 * std::sqrt(std::sqrt(static_cast<float>(head_dim)));
    check_accumulate({{1, 130, 192, 2, head_dim, scale}, {64, 128}, shift}, kernel);
    check_accumulate({{1, 130, 192, 2, head_dim, scale}, {64, 128}, -shift}, kernel);
  }
}

TEST_F(CudaAttention, AccumulatesBlocksOfKeys) {
  check_accumulate_cases(AccumulateKernel::kAmpere);
}

TEST_F(CudaAttention, AccumulatesBlocksOfKeysOnHopper) {
  Device<bf16> x(1024);
  const TokensView<const bf16> view{x.data(), 1024, 64};
  const AttentionSizes s{1, 16, 16, 1, 64, 0.125};
  if (accumulate_attention_kernel(view, view, view, s) != AccumulateKernel::kHopper)
    GTEST_SKIP() << "no Hopper";
  // A stride that a tensor map cannot have.
  AttentionSizes samples = s;
  samples.batch = 2;
  const TokensView<const bf16> repeated{x.data(), 0, 64};
  EXPECT_EQ(accumulate_attention_kernel(view, repeated, view, samples), AccumulateKernel::kAmpere);
  check_accumulate_cases(AccumulateKernel::kHopper);
}

#ifdef PENDULUM_CUDNN

// To the padded number of tokens; zeros behind each sample's.
Values padded(const Values& x, int64_t batch, int64_t tokens, int64_t token) {
  Values out;
  for (int64_t b = 0; b < batch; ++b) {
    out.insert(out.end(), x.begin() + b * tokens * token, x.begin() + (b + 1) * tokens * token);
    out.resize(static_cast<size_t>((b + 1) * cudnn_tokens(tokens) * token), 0.0F);
  }
  return out;
}
Values real(const Values& x, int64_t outer, int64_t tokens, int64_t token) {
  Values out;
  for (int64_t b = 0; b < outer; ++b) {
    const auto begin = x.begin() + b * cudnn_tokens(tokens) * token;
    out.insert(out.end(), begin, begin + tokens * token);
  }
  return out;
}

void check_cudnn(const AttentionSizes& s, float shift) {
  const int64_t token = s.heads * s.head_dim;
  const Values q = numbers(s.batch * s.queries * token, 1, s.head_dim, shift);
  const Values k = numbers(s.batch * s.keys * token, 2, s.head_dim, std::abs(shift));
  const Values v = numbers(s.batch * s.keys * token, 3, s.head_dim, 0);
  const Values dout = numbers(s.batch * s.queries * token, 4, s.head_dim, 0);
  const auto exact = plain_attention(wide(q), wide(k), wide(v), wide(dout), s);
  AttentionSizes sizes = s;
  sizes.queries = cudnn_tokens(s.queries);
  sizes.keys = cudnn_tokens(s.keys);
  const bool masked = sizes.queries != s.queries || sizes.keys != s.keys;
  const auto view = [&](auto* data, int64_t tokens) { return dense(data, tokens, s); };
  Device<bf16> d_q(padded(q, s.batch, s.queries, token)), d_k(padded(k, s.batch, s.keys, token)),
      d_v(padded(v, s.batch, s.keys, token)), d_dout(padded(dout, s.batch, s.queries, token));
  const int64_t n = s.batch * sizes.queries * token, m = s.batch * sizes.keys * token;
  Device<bf16> out(n), dq(n), dk(m), dv(m);
  Device<float> log_sum_exp(s.batch * s.heads * sizes.queries);
  DeviceTable<int32_t> queries(std::vector<int32_t>(s.batch, static_cast<int32_t>(s.queries)));
  DeviceTable<int32_t> keys(std::vector<int32_t>(s.batch, static_cast<int32_t>(s.keys)));
  CudnnAttention cudnn;
  const CudnnForward forward{view(out.data(), sizes.queries),
                             log_sum_exp.data(),
                             view(static_cast<const bf16*>(d_q.data()), sizes.queries),
                             view(static_cast<const bf16*>(d_k.data()), sizes.keys),
                             view(static_cast<const bf16*>(d_v.data()), sizes.keys),
                             masked ? queries.data() : nullptr,
                             masked ? keys.data() : nullptr};
  const CudnnPlan plan = cudnn.plan(forward, sizes);
  ASSERT_EQ(plan.refusal, "") << s.queries << " x " << s.keys;
  Device<bf16> workspace(plan.workspace / 2 + 1);
  cudnn.run(forward, sizes, workspace.data(), nullptr);
  const CudnnBackward backward{view(dq.data(), sizes.queries),
                               view(dk.data(), sizes.keys),
                               view(dv.data(), sizes.keys),
                               view(static_cast<const bf16*>(d_dout.data()), sizes.queries),
                               forward.query,
                               forward.key,
                               forward.value,
                               view(static_cast<const bf16*>(out.data()), sizes.queries),
                               log_sum_exp.data(),
                               forward.query_lengths,
                               forward.key_lengths};
  const CudnnPlan backward_plan = cudnn.plan(backward, sizes);
  ASSERT_EQ(backward_plan.refusal, "") << s.queries << " x " << s.keys;
  Device<bf16> backward_workspace(backward_plan.workspace / 2 + 1);
  cudnn.run(backward, sizes, backward_workspace.data(), nullptr);

  EXPECT_LE(worst_error(real(out.values(), s.batch, s.queries, token), exact.out),
            bound_of(exact.out, 1, shift, true))
      << s.queries << " x " << s.keys << ", shift " << shift;
  EXPECT_LE(
      worst_error(real(log_sum_exp.values(), s.batch * s.heads, s.queries, 1), exact.log_sum_exp),
      (64 + 4 * shift * shift) * 0x1p-23);
  // Gradients are sums over tokens of products of two bf16 numbers, each off by half a unit in the
  // last of 8 bits; terms of a sum have random signs, hence the root.
  const auto gradient_bound = [&](const std::vector<double>& g, int64_t terms) {
    return bound_of(g, 1, shift, true) +
           4 * 0x1p-8 * std::sqrt(static_cast<double>(terms)) * std::max(1.0F, std::abs(shift));
  };
  EXPECT_LE(worst_error(real(dq.values(), s.batch, s.queries, token), exact.dquery),
            gradient_bound(exact.dquery, 1));
  EXPECT_LE(worst_error(real(dk.values(), s.batch, s.keys, token), exact.dkey),
            gradient_bound(exact.dkey, s.queries));
  EXPECT_LE(worst_error(real(dv.values(), s.batch, s.keys, token), exact.dvalue),
            gradient_bound(exact.dvalue, s.queries));
}

TEST_F(CudaAttention, CudnnForwardAndBackward) {
  for (const int64_t head_dim : {64, 128}) {
    const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
    check_cudnn({2, 128, 256, 2, head_dim, scale}, 0);
    check_cudnn({2, 192, 64, 2, head_dim, scale}, 0);
    check_cudnn({1, 1, 100, 1, head_dim, scale}, 0);
    // What NaN came from: keys of 64 modulo 128, log-sum-exps below -88.
    const float shift = 10 * std::sqrt(std::sqrt(static_cast<float>(head_dim)));
    check_cudnn({1, 192, 192, 2, head_dim, scale}, -shift);
    check_cudnn({1, 192, 192, 2, head_dim, scale}, shift);
  }
}

TEST_F(CudaAttention, CudnnRefusesWhatItWouldGetWrong) {
  CudnnAttention cudnn;
  Device<bf16> x(128 * 64 + 8);
  Device<float> statistic(128);
  const AttentionSizes s{1, 128, 128, 1, 64, 0.125};
  const auto at = [&](int64_t offset) { return TokensView<bf16>{x.data() + offset, 8192, 64}; };
  const auto constant = [&](int64_t offset) {
    return TokensView<const bf16>{x.data() + offset, 8192, 64};
  };
  CudnnForward operands{at(0), statistic.data(), constant(0), constant(0), constant(0), {}, {}};
  EXPECT_EQ(cudnn.plan(operands, s).refusal, "");
  operands.value = constant(1);
  EXPECT_NE(cudnn.plan(operands, s).refusal.find("16 bytes"), std::string::npos);
  operands.value = constant(0);
  AttentionSizes odd = s;
  odd.keys = 64;
  EXPECT_NE(cudnn.plan(operands, odd).refusal.find("128"), std::string::npos);
}

#endif

}  // namespace
}  // namespace pendulum::kernels
