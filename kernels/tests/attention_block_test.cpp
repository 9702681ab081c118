// The block of threads behind accumulate_attention_cuda, on an emulated warp, against plain loops
// in fp64: fragments, swizzled memory, masks, pipelining and the running softmax, without a GPU.
#include "kernels/attention_block.h"

#include <gtest/gtest.h>

#include "attention_reference.h"
#include "compare.h"
#include "warp_emulation.h"

namespace pendulum::kernels {
namespace {

constexpr int kEmulatedWarps = 2;

std::vector<bf16> narrowed(const std::vector<float>& x) {
  std::vector<bf16> out;
  for (const float v : x) out.push_back({narrow(v)});
  return out;
}
std::vector<double> exactly(const std::vector<bf16>& x) {
  std::vector<double> out;
  for (const bf16 v : x) out.push_back(widen(v.bits));
  return out;
}

struct BlockCase {
  AttentionSizes sizes;  // with all keys
  std::vector<int64_t> keys;
  float shift = 0;  // of one element of every query and key
};

std::vector<bf16> inputs(int64_t count, uint64_t seed, int64_t head_dim, float shift) {
  return narrowed(shifted_values(count, seed, head_dim, shift));
}

template <int Dim>
void check_block(const BlockCase& c) {
  const AttentionSizes& s = c.sizes;
  const int64_t token = s.heads * Dim, queries_of_block = 16 * kEmulatedWarps;
  const auto q = inputs(s.batch * s.queries * token, 1, Dim, c.shift);
  const auto k = inputs(s.batch * s.keys * token, 2, Dim, std::abs(c.shift));
  const auto v = inputs(s.batch * s.keys * token, 3, Dim, 0);
  const auto exact = plain_attention(exactly(q), exactly(k), exactly(v), exactly(q), s);
  Output<float> merged(s.batch * s.queries * token), log_sum_exp(s.batch * s.heads * s.queries);
  std::fill_n(log_sum_exp.data(), s.batch * s.heads * s.queries,
              -std::numeric_limits<float>::infinity());
  int64_t first = 0;
  for (const int64_t keys : c.keys) {
    const auto k_block = block_of(k, first, keys, s), v_block = block_of(v, first, keys, s);
    const int64_t tiles = (s.queries + queries_of_block - 1) / queries_of_block;
    const accumulate::Arguments arguments{dense(merged.data(), s.queries, s),
                                          log_sum_exp.data(),
                                          dense(q.data(), s.queries, s),
                                          dense(k_block.data(), keys, s),
                                          dense(v_block.data(), keys, s),
                                          s.queries,
                                          keys,
                                          s.heads,
                                          tiles,
                                          static_cast<float>(s.scale * 1.4426950408889634)};
    for (int64_t block = 0; block < tiles * s.batch * s.heads; ++block) {
      run_block<kEmulatedWarps>(accumulate::kSharedBytes<Dim>, [&](auto& warp) {
        accumulate::accumulate_block<Dim>(warp, arguments, block);
      });
    }
    first += keys;
  }
  // Weights are rounded to bf16 before they meet the values, half a unit in the last of 8 bits
  // each; the weights of a sum add up to 1. Beside that, a few roundings of fp32 a block of keys,
  // and of scores of the size of the shift's square.
  double largest = 0;
  for (const double x : exact.out) largest = std::max(largest, std::abs(x));
  const double roundings =
      static_cast<double>(c.keys.size()) * (64 + 4 * c.shift * c.shift) * 0x1p-23;
  EXPECT_LE(worst_error(merged.values(), exact.out), largest * (0x1p-8 + roundings));
  EXPECT_LE(worst_error(log_sum_exp.values(), exact.log_sum_exp), roundings);
}

// batch, queries, keys, heads, head_dim, scale; tiles are of 32 queries here and 64 keys.
TEST(AttentionBlock, OneQueryAndKey) { check_block<64>({{1, 1, 1, 1, 64, 0.125}, {1}}); }
TEST(AttentionBlock, TilesAndWhatIsBesideThem) {
  check_block<64>({{1, 33, 129, 2, 64, 0.125}, {129}});
  check_block<64>({{2, 31, 65, 1, 64, 0.125}, {64, 1}});
  check_block<128>({{1, 32, 64, 2, 128, 0.088}, {64}});
  check_block<128>({{1, 17, 191, 1, 128, 0.088}, {63, 128}});
}
TEST(AttentionBlock, LogSumExpMayBeFarFromZero) {
  for (const float shift : {28.0F, -28.0F})
    check_block<64>({{1, 16, 100, 1, 64, 0.125}, {37, 63}, shift});
}

}  // namespace
}  // namespace pendulum::kernels
