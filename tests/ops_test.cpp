// Every differentiable operation: values against ATen's own operators, gradients against central
// differences.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "core/error.h"
#include "ops/adamw.h"
#include "ops/attention.h"
#include "ops/bias_gelu.h"
#include "ops/gated_residual.h"
#include "ops/merge_attention.h"
#include "ops/norm_modulate.h"
#include "ops/norm_rotary.h"
#include "ops/parallel.h"
#include "ops/projection.h"
#include "ops/rms_silu.h"
#include "support.h"

namespace pendulum {
namespace {

using Tensors = std::vector<at::Tensor>;

at::Tensor wide(const at::Tensor& x) { return x.to(at::kDouble); }

// f in fp32 is as good as `plain` in fp32, both judged by `plain` in fp64; f in bf16 (fp32 where
// `narrow` is false) likewise.
void expect_as_good_as(const TensorFunction& f, const TensorFunction& plain,
                       const Tensors& inputs) {
  Tensors exact_inputs;
  for (const at::Tensor& input : inputs) exact_inputs.push_back(wide(input));
  const at::Tensor exact = plain(exact_inputs);
  EXPECT_TRUE(as_good_as(f(inputs), plain(inputs), exact));
  EXPECT_TRUE(near(f(exact_inputs), exact, 1e-13 * (1 + exact.abs().max().item<double>())));
}

at::Tensor broadcast_over_tokens(const at::Tensor& x) { return x.dim() == 2 ? x.unsqueeze(1) : x; }

at::Tensor plain_norm_modulate(const at::Tensor& x, const at::Tensor& scale,
                               const at::Tensor& shift, double offset) {
  return at::layer_norm(x, {x.size(-1)}, {}, {}, 1e-6) * (offset + broadcast_over_tokens(scale)) +
         broadcast_over_tokens(shift);
}

// Widths: 1, primes, vector widths less and more one. A row of zeros stays zero.
// Each piece waits for the other: on one thread neither would ever be done.
TEST(ParallelFor, RunsPiecesSideBySide) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  std::atomic<int> arrived = 0;
  std::atomic<bool> met = true;
  parallel_for(0, 2, 1, [&](int64_t first, int64_t last) {
    EXPECT_EQ(last, first + 1);
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (arrived < 2) met = false;
  });
  EXPECT_TRUE(met);
  at::set_num_threads(1);
  int calls = 0;
  parallel_for(3, 9, 1, [&](int64_t first, int64_t last) { calls += first == 3 && last == 9; });
  EXPECT_EQ(calls, 1);
  at::set_num_threads(threads);
}

TEST(RmsSilu, IsAsGoodAsAten) {
  const TensorFunction plain = [](const Tensors& in) {
    const at::Tensor& x = in[0];
    const at::Tensor length = x.norm(2, -1, true).clamp_min(1e-12);
    return at::silu(x / length * std::sqrt(static_cast<double>(x.size(-1))) * in[1]);
  };
  const TensorFunction f = [](const Tensors& in) {
    at::Tensor out = at::full_like(in[0], std::nan(""));
    rms_silu(out, in[0], in[1]);
    return out;
  };
  for (const int64_t dim : {1, 7, 31, 33, 96, 384}) {
    at::Tensor x = random_tensor({3, 37, dim}, 1) * 5;
    x[1][2].zero_();
    expect_as_good_as(f, plain, {x, random_tensor({dim}, 2)});
    const at::Tensor narrow = x.to(at::kBFloat16), gamma = random_tensor({dim}, 2, at::kBFloat16);
    const at::Tensor exact = plain({wide(narrow), wide(gamma)});
    EXPECT_TRUE(near(f({narrow, gamma}), exact, 4e-3 * exact.abs().max().item<double>()));
    x[0][1][0] = std::nan("");
    EXPECT_TRUE(f({x, random_tensor({dim}, 2)})[0][1].isnan().all().item<bool>());
  }
}

TEST(NormModulate, PerSamplePerTokenAndAffine) {
  for (const auto& [tokens, dim] : {std::pair<int64_t, int64_t>{1, 8}, {65, 31}, {13, 160}}) {
    const at::Tensor x = random_tensor({3, tokens, dim}, 1);
    const std::vector<std::vector<int64_t>> shapes{{3, dim}, {3, tokens, dim}, {dim}};
    for (const auto& shape : shapes) {
      const double offset = shape.size() == 1 ? 0.0 : 1.0;
      expect_as_good_as(
          [&](const Tensors& t) { return norm_modulate(t[0], t[1], t[2], 1e-6, offset); },
          [&](const Tensors& t) { return plain_norm_modulate(t[0], t[1], t[2], offset); },
          {x, random_tensor(shape, 2), random_tensor(shape, 3)});
    }
  }
}

TEST(NormModulate, Gradients) {
  const std::vector<std::vector<int64_t>> shapes{{2, 7}, {2, 66, 7}, {7}};
  for (const auto& shape : shapes) {
    EXPECT_TRUE(gradients_match(
        [](const Tensors& t) { return norm_modulate(t[0], t[1], t[2], 1e-6, 1.0); },
        {random_tensor({2, 66, 7}, 1, at::kDouble), random_tensor(shape, 2, at::kDouble),
         random_tensor(shape, 3, at::kDouble)}));
  }
}

// Slices of one modulation tensor, as the model passes them: strided views, used in place.
TEST(NormModulate, TakesSlicesOfOneTensor) {
  const at::Tensor x = random_tensor({2, 5, 12}, 1);
  for (const at::Tensor& table : {random_tensor({2, 6, 12}, 2), random_tensor({2, 5, 6, 12}, 3)}) {
    const auto m = table.unbind(-2);
    EXPECT_TRUE(same_bits(norm_modulate(x, m[4], m[3], 1e-6),
                          norm_modulate(x, m[4].contiguous(), m[3].contiguous(), 1e-6)));
  }
  EXPECT_TRUE(gradients_match(
      [](const Tensors& t) {
        const auto m = t[1].unbind(-2);
        return gated_residual(t[0], norm_modulate(t[0], m[1], m[0], 1e-6), t[2], m[2]);
      },
      {random_tensor({2, 5, 12}, 1, at::kDouble), random_tensor({2, 5, 6, 12}, 3, at::kDouble),
       random_tensor({12}, 4, at::kDouble)}));
}

TEST(NormModulate, RefusesWhatDoesNotFit) {
  const at::Tensor x = random_tensor({2, 5, 12}, 1);
  const at::Tensor scale = random_tensor({3, 12}, 1);
  EXPECT_THROW(norm_modulate(x, scale, scale, 1e-6), Error);
  EXPECT_THROW(norm_modulate(x, scale.narrow(0, 0, 2), scale, 1e-6), Error);
  EXPECT_THROW(norm_modulate(x, at::zeros({2, 4, 12}), at::zeros({2, 4, 12}), 1e-6), Error);
}

at::Tensor plain_norm_rotary(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& cosine, const at::Tensor& sine, int64_t heads) {
  at::Tensor y = x * at::rsqrt(x.square().mean(-1, true) + 1e-6) * weight;
  y = y.unflatten(-1, {heads, -1});
  if (!cosine.defined()) return y;
  const auto pairs = y.unflatten(-1, {-1, 2}).unbind(-1);
  const at::Tensor c = cosine.unsqueeze(1);
  const at::Tensor s = sine.unsqueeze(1);
  return at::stack({pairs[0] * c - pairs[1] * s, pairs[0] * s + pairs[1] * c}, -1).flatten(-2);
}

RotaryTables tables_like(const at::Tensor& x, int64_t tokens, int64_t head_dim) {
  const at::Tensor angles = random_tensor({tokens, head_dim / 2}, 77, at::kDouble);
  return {angles.cos().to(x.options()), angles.sin().to(x.options())};
}

TEST(NormRotary, QueryKeyAndValue) {
  for (const auto& [tokens, heads, head_dim] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 1, 2}, {67, 3, 6}, {16, 4, 40}}) {
    const int64_t dim = heads * head_dim;
    const Tensors inputs{random_tensor({2, tokens, 3 * dim}, 1), random_tensor({dim}, 2),
                         random_tensor({dim}, 3)};
    for (int part = 0; part < 3; ++part) {
      expect_as_good_as(
          [&](const Tensors& t) {
            const RotaryTables tables = tables_like(t[0], tokens, head_dim);
            return norm_rotary(t[0], {t[1], t[2]}, &tables, heads, 1e-6)[part];
          },
          [&](const Tensors& t) {
            const at::Tensor x = t[0].narrow(-1, part * dim, dim);
            if (part == 2) return x.unflatten(-1, {heads, head_dim});
            const RotaryTables tables = tables_like(t[0], tokens, head_dim);
            return plain_norm_rotary(x, t[1 + part], tables.cosine, tables.sine, heads);
          },
          inputs);
    }
  }
}

TEST(NormRotary, Gradients) {
  const auto type = at::kDouble;
  // All three, two with one norm and no rotation, one alone.
  EXPECT_TRUE(gradients_match(
      [](const Tensors& t) {
        const RotaryTables tables = tables_like(t[0], 65, 4);
        const auto out = norm_rotary(t[0], {t[1], t[2]}, &tables, 2, 1e-6);
        return at::cat({out[0], out[1].sin(), out[2].square()}, -1);
      },
      {random_tensor({2, 65, 24}, 1, type), random_tensor({8}, 2, type),
       random_tensor({8}, 3, type)}));
  EXPECT_TRUE(gradients_match(
      [](const Tensors& t) {
        const auto out = norm_rotary(t[0], {t[1]}, nullptr, 2, 1e-6);
        return at::cat({out[0], out[1].square()}, -1);
      },
      {random_tensor({2, 5, 16}, 1, type), random_tensor({8}, 2, type)}));
  EXPECT_TRUE(gradients_match(
      [](const Tensors& t) { return norm_rotary(t[0], {t[1]}, nullptr, 2, 1e-6)[0]; },
      {random_tensor({2, 5, 8}, 1, type), random_tensor({8}, 2, type)}));
  // A part that nothing reads has the gradient zero.
  EXPECT_TRUE(gradients_match(
      [](const Tensors& t) { return norm_rotary(t[0], {t[1]}, nullptr, 2, 1e-6)[0]; },
      {random_tensor({2, 5, 16}, 1, type), random_tensor({8}, 2, type)}));
}

// What norm_rotary() gives, in the order in which ranks exchange heads: to the bit, and so are the
// gradients.
TEST(NormRotary, DealtToRanks) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const int64_t parts : {1, 2, 4}) {
      const auto weights_type = type == at::kBFloat16 ? at::kFloat : type;
      const at::Tensor dout = random_tensor({3, parts, 2, 65, 4 / parts, 6}, 9).to(type);
      const auto run = [&](bool dealt) {
        Tensors t{random_tensor({2, 65, 72}, 1).to(type), random_tensor({24}, 2).to(weights_type),
                  random_tensor({24}, 3).to(weights_type)};
        for (at::Tensor& x : t) x.set_requires_grad(true);
        const RotaryTables tables = tables_like(t[1].detach(), 65, 6);
        const at::Tensor out =
            dealt ? norm_rotary_dealt(t[0], {t[1], t[2]}, tables, 4, 1e-6, parts)
                  : deal_heads(norm_rotary(t[0], {t[1], t[2]}, &tables, 4, 1e-6), parts);
        out.backward(dout);
        return Tensors{out.detach(), t[0].grad(), t[1].grad(), t[2].grad()};
      };
      const Tensors found = run(true), expected = run(false);
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_TRUE(same_bits(found[i], expected[i]))
            << i << ", " << c10::toString(type) << ", " << parts << " parts";
      }
    }
  }
  const at::Tensor x = at::zeros({1, 2, 36}), w = at::zeros({12});
  EXPECT_THROW(norm_rotary_dealt(x, {w, w}, tables_like(x, 2, 4), 3, 1e-6, 2), Error);
}

TEST(GatedResidual, PerSamplePerTokenAndUngated) {
  const at::Tensor x = random_tensor({2, 67, 33}, 1);
  const at::Tensor y = random_tensor({2, 67, 33}, 2);
  const at::Tensor bias = random_tensor({33}, 3);
  for (const at::Tensor& gate : {random_tensor({2, 33}, 4), random_tensor({2, 67, 33}, 5)}) {
    expect_as_good_as(
        [](const Tensors& t) { return gated_residual(t[0], t[1], t[2], t[3]); },
        [](const Tensors& t) { return t[0] + (t[1] + t[2]) * broadcast_over_tokens(t[3]); },
        {x, y, bias, gate});
    EXPECT_TRUE(
        gradients_match([](const Tensors& t) { return gated_residual(t[0], t[1], t[2], t[3]); },
                        {wide(x), wide(y), wide(bias), wide(gate)}));
  }
  expect_as_good_as([](const Tensors& t) { return gated_residual(t[0], t[1], t[2]); },
                    [](const Tensors& t) { return t[0] + (t[1] + t[2]); }, {x, y, bias});
  EXPECT_TRUE(gradients_match([](const Tensors& t) { return gated_residual(t[0], t[1], t[2]); },
                              {wide(x), wide(y), wide(bias)}));
}

TEST(BiasGelu, ValuesAndGradients) {
  const at::Tensor x = 3 * random_tensor({2, 67, 33}, 1);
  const at::Tensor bias = random_tensor({33}, 3);
  expect_as_good_as([](const Tensors& t) { return bias_gelu(t[0], t[1]); },
                    [](const Tensors& t) { return at::gelu(t[0] + t[1], "tanh"); }, {x, bias});
  EXPECT_TRUE(gradients_match([](const Tensors& t) { return bias_gelu(t[0], t[1]); },
                              {wide(x), wide(bias)}));
}

TEST(Project, ValuesAndGradients) {
  const Tensors inputs{random_tensor({2, 67, 9}, 1), random_tensor({5, 9}, 2),
                       random_tensor({5}, 3)};
  expect_as_good_as([](const Tensors& t) { return project(t[0], t[1], t[2]); },
                    [](const Tensors& t) { return at::linear(t[0], t[1], t[2]); }, inputs);
  EXPECT_TRUE(gradients_match([](const Tensors& t) { return project(t[0], t[1], t[2]); },
                              {wide(inputs[0]), wide(inputs[1]), wide(inputs[2])}));
  EXPECT_TRUE(gradients_match([](const Tensors& t) { return project(t[0], t[1]); },
                              {wide(inputs[0]), wide(inputs[1])}));
}

TEST(Joined, CopiesOnlyWhatIsApart) {
  const at::Tensor storage = random_tensor({6, 4}, 1);
  const Tensors parts{storage.narrow(0, 0, 1), storage.narrow(0, 1, 3), storage.narrow(0, 4, 2)};
  const at::Tensor together = joined(parts, at::kFloat);
  EXPECT_EQ(together.const_data_ptr(), storage.const_data_ptr());
  EXPECT_TRUE(same_bits(together, storage));
  const at::Tensor apart = joined({parts[0].clone(), parts[1].clone(), parts[2]}, at::kFloat);
  EXPECT_NE(apart.const_data_ptr(), storage.const_data_ptr());
  EXPECT_TRUE(same_bits(apart, storage));
  const at::Tensor exchanged = joined({parts[2], parts[0]}, at::kFloat);
  EXPECT_TRUE(same_bits(exchanged, at::cat({parts[2], parts[0]})));
  EXPECT_TRUE(same_bits(joined(parts, at::kBFloat16), storage.to(at::kBFloat16)));
  EXPECT_TRUE(gradients_match([](const Tensors& t) { return joined(t, at::kDouble).square(); },
                              {wide(parts[0]), wide(parts[1]), wide(parts[2])}));
}

at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Tensor scores = at::matmul(q.transpose(1, 2), k.transpose(1, 2).transpose(-1, -2)) /
                            std::sqrt(static_cast<double>(q.size(-1)));
  return at::matmul(scores.softmax(-1), v.transpose(1, 2)).transpose(1, 2).flatten(2);
}

TEST(Attention, ValuesAndGradients) {
  for (const auto& [queries, keys, heads, head_dim] :
       {std::tuple<int64_t, int64_t, int64_t, int64_t>{1, 1, 1, 2},
        {17, 5, 3, 6},
        {16, 16, 4, 40},
        {63, 65, 2, 8},
        {131, 7, 2, 10}}) {
    const Tensors inputs{random_tensor({2, queries, heads, head_dim}, 1),
                         random_tensor({2, keys, heads, head_dim}, 2),
                         random_tensor({2, keys, heads, head_dim}, 3)};
    const auto f = [](const Tensors& t) { return attention(t[0], t[1], t[2]); };
    expect_as_good_as(
        f, [](const Tensors& t) { return plain_attention(t[0], t[1], t[2]); }, inputs);
    EXPECT_TRUE(gradients_match(f, {wide(inputs[0]), wide(inputs[1]), wide(inputs[2])}));
  }
}

TEST(Attention, LargeScoresStayFinite) {
  const at::Tensor q = 100 * random_tensor({1, 9, 2, 8}, 1);
  const AttentionOutput result = attention_forward(q, q, q);
  EXPECT_TRUE(result.out.isfinite().all().item<bool>());
  EXPECT_TRUE(near(attention(wide(q), wide(q), wide(q)), plain_attention(wide(q), wide(q), wide(q)),
                   1e-11));
}

// What ring attention does: two blocks of keys merged by log-sum-exp, gradients from the whole's
// output.
TEST(Attention, BlocksOfKeysMerge) {
  for (const int64_t keys : {11, 150}) {
    const at::Tensor q = random_tensor({2, 7, 3, 6}, 1, at::kDouble);
    const at::Tensor k = random_tensor({2, keys, 3, 6}, 2, at::kDouble);
    const at::Tensor v = random_tensor({2, keys, 3, 6}, 3, at::kDouble);
    const at::Tensor dout = random_tensor({2, 7, 3, 6}, 4, at::kDouble);
    const AttentionOutput whole = attention_forward(q, k, v);
    const AttentionOutput a = attention_forward(q, k.narrow(1, 0, 4), v.narrow(1, 0, 4));
    const AttentionOutput b =
        attention_forward(q, k.narrow(1, 4, keys - 4), v.narrow(1, 4, keys - 4));
    const at::Tensor merged_lse = at::logaddexp(a.log_sum_exp, b.log_sum_exp);
    EXPECT_TRUE(near(merged_lse, whole.log_sum_exp, 1e-13));
    const auto share = [&](const AttentionOutput& part) {
      return part.out * (part.log_sum_exp - merged_lse).exp().transpose(1, 2).unsqueeze(-1);
    };
    EXPECT_TRUE(near(share(a) + share(b), whole.out, 1e-13));
    const auto g = attention_backward(dout, q, k, v, whole);
    const auto ga = attention_backward(dout, q, k.narrow(1, 0, 4), v.narrow(1, 0, 4), whole);
    const auto gb =
        attention_backward(dout, q, k.narrow(1, 4, keys - 4), v.narrow(1, 4, keys - 4), whole);
    EXPECT_TRUE(near(ga.query + gb.query, g.query, 1e-13));
    EXPECT_TRUE(near(at::cat({ga.key, gb.key}, 1), g.key, 1e-13));
    EXPECT_TRUE(near(at::cat({ga.value, gb.value}, 1), g.value, 1e-13));
  }
}

// What a GPU does where it has no kernel, against the CPU's: fp64, bf16 parts, heads of odd sizes.
TEST(MergeAttention, PlainlyIsTheSame) {
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  for (const auto& [type, bound] :
       {std::pair{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 1e-5}}) {
    const at::Tensor query = random_tensor({2, 7, 3, 5}, 1).to(type);
    const AttentionOutput merged = empty_attention(query), plain = empty_attention(query);
    for (const uint64_t block : {2, 3, 4}) {
      const auto wide = merged.log_sum_exp.options();
      AttentionOutput part{random_tensor({2, 7, 3, 5}, block).to(type),
                           random_tensor({2, 3, 7}, 10 + block).to(wide) * 40 - 60};
      // The first query of the first two blocks has no keys, and what stands there is not read.
      if (block < 4) {
        part.log_sum_exp.select(2, 0).fill_(kNone);
        part.out.select(1, 0).fill_(std::numeric_limits<double>::quiet_NaN());
      }
      merge_attention(merged, part);
      merge_attention_plainly(plain, part);
      EXPECT_TRUE(near(plain.out, merged.out, bound));
      EXPECT_TRUE(
          near(plain.log_sum_exp.select(2, 1), merged.log_sum_exp.select(2, 1), 100 * bound));
      EXPECT_TRUE(at::equal(plain.log_sum_exp.isneginf(), merged.log_sum_exp.isneginf()));
    }
    EXPECT_TRUE(plain.out.isfinite().all().item<bool>());
  }
}

// In bf16 the operations compute in fp32 inside: as good as fp32 arithmetic between bf16 roundings.
TEST(Operations, NarrowInputsAreComputedWide) {
  const auto narrow = at::kBFloat16;
  const at::Tensor x = random_tensor({2, 5, 24}, 1, narrow);
  const at::Tensor y = random_tensor({2, 5, 24}, 2, narrow);
  const at::Tensor row = random_tensor({2, 24}, 3);
  const at::Tensor bias = random_tensor({24}, 4);
  const auto rounding = [](const at::Tensor& exact) {
    return 0x1p-8 * exact.abs().max().item<double>();
  };
  const at::Tensor norm = plain_norm_modulate(wide(x), wide(row), wide(row), 1.0);
  EXPECT_TRUE(near(norm_modulate(x, row, row, 1e-6), norm, rounding(norm)));
  const at::Tensor sum = wide(x) + (wide(y) + wide(bias)) * wide(row).unsqueeze(1);
  EXPECT_TRUE(near(gated_residual(x, y, bias, row), sum, rounding(sum)));
  const at::Tensor gelu = at::gelu(wide(x) + wide(bias), "tanh");
  EXPECT_TRUE(near(bias_gelu(x, bias), gelu, rounding(gelu)));
  const RotaryTables tables = tables_like(bias, 5, 12);
  const RotaryTables wide_tables{wide(tables.cosine), wide(tables.sine)};
  const at::Tensor turned =
      plain_norm_rotary(wide(x), wide(bias), wide_tables.cosine, wide_tables.sine, 2);
  EXPECT_TRUE(near(norm_rotary(x, {bias}, &tables, 2, 1e-6)[0], turned, rounding(turned)));
}

// Sums are cut by shape, not by thread: the same bits with one thread and with three.
TEST(Operations, ThreadsDoNotChangeBits) {
  const int threads = at::get_num_threads();
  const auto run = [](int count) {
    at::set_num_threads(count);
    Tensors inputs{random_tensor({3, 230, 33}, 1), random_tensor({3, 33}, 2),
                   random_tensor({33}, 3)};
    for (at::Tensor& input : inputs) input.set_requires_grad(true);
    const at::Tensor norm = norm_modulate(inputs[0], inputs[1], inputs[1], 1e-6);
    gated_residual(inputs[0], bias_gelu(norm, inputs[2]), inputs[2], inputs[1])
        .square()
        .sum()
        .backward();
    Tensors out;
    for (const at::Tensor& input : inputs) out.push_back(input.grad());
    return out;
  };
  const Tensors one = run(1);
  const Tensors three = run(3);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(three[i], one[i])) << i;
}

TEST(AdamwStep, ManyTensorsAsOneByOne) {
  const auto tensors = [](const std::vector<int64_t>& shape, uint64_t seed) {
    return AdamwTensors{random_tensor(shape, seed), random_tensor(shape, seed + 1),
                        at::zeros(shape), at::zeros(shape), random_tensor(shape, seed)};
  };
  // One of them spans several pieces, one is empty, one has a transposed gradient.
  std::vector<AdamwTensors> together{tensors({40000}, 1), tensors({3, 5}, 2), tensors({0}, 3)};
  together[1].gradient = random_tensor({5, 3}, 9).t();
  std::vector<AdamwTensors> single;
  for (const AdamwTensors& t : together)
    single.push_back({t.parameter.clone(), t.gradient, t.first_moment.clone(),
                      t.second_moment.clone(), t.average.clone()});
  for (int64_t step = 1; step <= 3; ++step) {
    const AdamwSettings settings{.gradient_scale = 0.7, .step = step};
    adamw_step(together, settings);
    for (const AdamwTensors& t : single)
      adamw_step(t.parameter, t.gradient, t.first_moment, t.second_moment, t.average, settings);
  }
  for (size_t i = 0; i < single.size(); ++i) {
    EXPECT_TRUE(same_bits(together[i].parameter, single[i].parameter));
    EXPECT_TRUE(same_bits(together[i].average, single[i].average));
  }
  EXPECT_THROW(adamw_step({{at::zeros(3), at::zeros(4), at::zeros(3), at::zeros(3), {}}}, {}),
               Error);
}

TEST(SumOfSquares, IsThatOfAllTensors) {
  const Tensors tensors{random_tensor({40000}, 1), random_tensor({3, 5}, 2).t(), at::zeros({0})};
  const double expected = wide(tensors[0]).square().sum().item<double>() +
                          wide(tensors[1]).square().sum().item<double>();
  // 40,000 additions in fp64.
  EXPECT_LE(std::abs(sum_of_squares(tensors) - expected), 40000 * 0x1p-52 * expected);
  EXPECT_EQ(sum_of_squares({}), 0);
}

}  // namespace
}  // namespace pendulum
