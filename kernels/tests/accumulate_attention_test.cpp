// Attention that is accumulated over blocks of keys, against all keys at once by plain loops in
// fp64.
#include <gtest/gtest.h>

#include "attention_reference.h"
#include "compare.h"
#include "kernels/attention.h"

namespace pendulum::kernels {
namespace {

struct Blocks {
  AttentionSizes sizes;  // with all keys
  std::vector<int64_t> keys;
  double shift = 0;  // added to one element of every query and key: scores lie about its square
};

class AccumulateAttention : public ::testing::TestWithParam<Blocks> {};

// Nothing is merged at first: what stands there must not be read.
template <class T>
std::pair<std::vector<T>, std::vector<T>> accumulated(const std::vector<T>& q,
                                                      const std::vector<T>& k,
                                                      const std::vector<T>& v, const Blocks& c) {
  const AttentionSizes& s = c.sizes;
  Output<T> out(static_cast<int64_t>(q.size()));
  Output<T> log_sum_exp(s.batch * s.heads * s.queries);
  std::fill_n(log_sum_exp.data(), s.batch * s.heads * s.queries,
              -std::numeric_limits<T>::infinity());
  int64_t first = 0;
  for (const int64_t keys : c.keys) {
    AttentionSizes block = s;
    block.keys = keys;
    const auto k_block = block_of(k, first, keys, s), v_block = block_of(v, first, keys, s);
    std::vector<T> scratch(attention_scratch(block), std::numeric_limits<T>::quiet_NaN());
    const int64_t units = s.batch * s.heads;
    for (const auto& [begin, end] : {std::pair{int64_t{0}, units / 2}, std::pair{units / 2, units}})
      accumulate_attention<T>(dense(out.data(), s.queries, s), log_sum_exp.data(),
                              dense(q.data(), s.queries, s), dense(k_block.data(), keys, s),
                              dense(v_block.data(), keys, s), scratch.data(), block, begin, end);
    first += keys;
  }
  return {out.values(), log_sum_exp.values()};
}

template <class T>
std::vector<T> shifted(std::vector<T> x, const AttentionSizes& s, double by) {
  for (size_t i = 0; i < x.size(); i += s.head_dim) x[i] = static_cast<T>(x[i] + by);
  return x;
}

TEST_P(AccumulateAttention, EqualsAllKeysAtOnce) {
  const Blocks& c = GetParam();
  const AttentionSizes& s = c.sizes;
  const int64_t token = s.heads * s.head_dim;
  const auto q = shifted(random_values<double>(s.batch * s.queries * token, 1), s, c.shift);
  const auto k = shifted(random_values<double>(s.batch * s.keys * token, 2), s, std::abs(c.shift));
  const auto v = random_values<double>(s.batch * s.keys * token, 3);
  const auto exact = plain_attention(q, k, v, q, s);
  const auto [out, log_sum_exp] = accumulated(q, k, v, c);
  // Scores up to shift^2: so many roundings of the exponents.
  const double roundings = 64 + c.shift * c.shift;
  EXPECT_LE(worst_error(out, exact.out), roundings * 0x1p-52);
  EXPECT_LE(worst_error(log_sum_exp, exact.log_sum_exp), roundings * 0x1p-52);

  const std::vector<float> qf(q.begin(), q.end()), kf(k.begin(), k.end()), vf(v.begin(), v.end());
  const auto narrow = [](const std::vector<float>& x) {
    return std::vector<double>(x.begin(), x.end());
  };
  const auto exact_f = plain_attention(narrow(qf), narrow(kf), narrow(vf), narrow(qf), s);
  const auto [out_f, log_sum_exp_f] = accumulated(qf, kf, vf, c);
  const auto blocks = static_cast<double>(c.keys.size());
  EXPECT_LE(worst_error(out_f, exact_f.out), blocks * roundings * 0x1p-23);
  EXPECT_LE(worst_error(log_sum_exp_f, exact_f.log_sum_exp), blocks * roundings * 0x1p-23);
}

// batch, queries, keys, heads, head_dim, scale
INSTANTIATE_TEST_SUITE_P(Shapes, AccumulateAttention,
                         ::testing::Values(Blocks{{1, 1, 1, 1, 1, 1.0}, {1}},
                                           Blocks{{2, 47, 40, 3, 7, 0.4}, {7, 33}},
                                           Blocks{{1, 49, 101, 2, 40, 0.16}, {17, 1, 64, 19}},
                                           Blocks{{1, 5, 33, 1, 128, 0.09}, {16, 17}},
                                           Blocks{{1, 97, 60, 2, 16, 0.25}, {20, 20, 20}, 20},
                                           Blocks{{1, 97, 60, 2, 16, 0.25}, {20, 20, 20}, -20}));

TEST(AccumulateAttention, NotANumberReachesOnlyItsQueries) {
  const AttentionSizes s{.batch = 1, .queries = 3, .keys = 5, .heads = 1, .head_dim = 4};
  auto q = random_values<float>(12, 1);
  const auto k = random_values<float>(20, 2);
  q[5] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> out(12), lse(3, -std::numeric_limits<float>::infinity()),
      scratch(attention_scratch(s));
  for (int pass = 0; pass < 2; ++pass)
    accumulate_attention<float>(dense(out.data(), 3, s), lse.data(),
                                dense<const float>(q.data(), 3, s), dense(k.data(), 5, s),
                                dense(k.data(), 5, s), scratch.data(), s, 0, 1);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(std::isnan(out[i]), i / 4 == 1) << i;
}

}  // namespace
}  // namespace pendulum::kernels
