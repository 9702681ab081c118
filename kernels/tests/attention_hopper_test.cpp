// The block of threads behind accumulate_attention_hopper, on an emulated Hopper, against plain
// loops in fp64: tensor maps, swizzles, descriptors, barriers' phases, turns, masks and the running
// softmax, without a GPU. Every case runs in several orders of events.
#include "kernels/attention_hopper_block.h"

#include <gtest/gtest.h>

#include "attention_reference.h"
#include "compare.h"
#include "hopper_emulation.h"

namespace pendulum::kernels {
namespace {

struct HopperCase {
  AttentionSizes sizes;  // with all keys
  std::vector<int64_t> keys;
  float shift = 0;  // of one element of every query and key
  int blocks = 1;   // of threads
  int64_t gap = 0;  // elements between tokens
};

std::vector<float> bf16_values(int64_t count, uint64_t seed, int64_t head_dim, float shift) {
  auto x = shifted_values(count, seed, head_dim, shift);
  for (float& v : x) v = widen(narrow(v));
  return x;
}

std::vector<bf16> spread_out(const std::vector<float>& x, const AttentionSizes& s, int64_t gap) {
  std::vector<bf16> out;
  for (const float v : spread(x, s, gap)) out.push_back({narrow(v)});
  return out;
}

template <int Dim>
std::string run_hopper(const hopper::Arguments<hopper::Tiling>& arguments, int blocks,
                       size_t order) {
  for (int block = 0; block < blocks; ++block) {
    HopperBlock emulated(hopper::kThreads<Dim>, hopper::Memory<Dim>::kBytes, order);
    const std::string failure = emulated.run([&](int thread) {
      HopperThread view(emulated, thread, hopper::kThreads<Dim>, block, blocks);
      hopper::accumulate_blocks<Dim>(view, arguments);
    });
    if (!failure.empty()) return failure;
  }
  return "";
}

template <int Dim>
void check_order(const HopperCase& c, size_t order) {
  const AttentionSizes& s = c.sizes;
  const int64_t token = s.heads * Dim;
  const auto q = bf16_values(s.batch * s.queries * token, 1, Dim, c.shift);
  const auto k = bf16_values(s.batch * s.keys * token, 2, Dim, std::abs(c.shift));
  const auto v = bf16_values(s.batch * s.keys * token, 3, Dim, 0);
  const auto wide = [](const std::vector<float>& x) {
    return std::vector<double>(x.begin(), x.end());
  };
  const auto exact = plain_attention(wide(q), wide(k), wide(v), wide(q), s);
  const int64_t merged_sample = spread(q.data(), s.queries, s, c.gap).batch_stride;
  Output<float> merged(s.batch * merged_sample), log_sum_exp(s.batch * s.heads * s.queries);
  std::fill_n(log_sum_exp.data(), s.batch * s.heads * s.queries,
              -std::numeric_limits<float>::infinity());
  const auto spread_q = spread_out(q, s, c.gap);
  int64_t first = 0;
  for (const int64_t keys : c.keys) {
    constexpr int kKeys = hopper::Shape<Dim>::kKeys;
    const auto spread_k = spread_out(block_of(k, first, keys, s), s, c.gap);
    const auto spread_v = spread_out(block_of(v, first, keys, s), s, c.gap);
    const auto tiling = [&](const std::vector<bf16>& x, int64_t tokens, int rows) {
      return hopper::tiling_of<Dim>(spread(x.data(), tokens, s, c.gap), s.batch, tokens, s.heads,
                                    rows);
    };
    const int tiles =
        static_cast<int>((s.queries + hopper::kQueries<Dim> - 1) / hopper::kQueries<Dim>);
    const hopper::Arguments<hopper::Tiling> arguments{
        tiling(spread_q, s.queries, hopper::kGroupQueries),
        tiling(spread_k, keys, kKeys),
        tiling(spread_v, keys, kKeys),
        spread(merged.data(), s.queries, s, c.gap),
        log_sum_exp.data(),
        static_cast<int>(s.queries),
        static_cast<int>(keys),
        static_cast<int>(s.heads),
        tiles,
        static_cast<int>(tiles * s.batch * s.heads),
        static_cast<float>(s.scale * 1.4426950408889634)};
    ASSERT_EQ(run_hopper<Dim>(arguments, c.blocks, order), "") << "order " << order;
    first += keys;
  }
  // As in attention_block_test.cpp: weights are rounded to bf16, and a few roundings of fp32.
  double largest = 0;
  for (const double x : exact.out) largest = std::max(largest, std::abs(x));
  const double roundings =
      static_cast<double>(c.keys.size()) * (64 + 4 * c.shift * c.shift) * 0x1p-23;
  EXPECT_LE(worst_error(gathered(merged.values(), s.queries, s, c.gap), exact.out),
            largest * (0x1p-8 + roundings))
      << "order " << order;
  EXPECT_LE(worst_error(log_sum_exp.values(), exact.log_sum_exp), roundings) << "order " << order;
}

template <int Dim>
void check_hopper(const HopperCase& c) {
  for (size_t order = 0; order < kOrders.size(); ++order) check_order<Dim>(c, order);
}

// batch, queries, keys, heads, head_dim, scale. Tiles are of 192 queries and 128 keys with heads of
// 64, of 128 queries and 176 keys with heads of 128.
TEST(AttentionHopper, OneQueryAndKey) {
  check_hopper<64>({{1, 1, 1, 1, 64, 0.125}, {1}});
  check_hopper<128>({{1, 1, 1, 1, 128, 0.088}, {1}});
}
TEST(AttentionHopper, TilesAndWhatIsBesideThem) {
  check_hopper<64>({{1, 192, 128, 1, 64, 0.125}, {128}});
  check_hopper<64>({{1, 193, 129, 1, 64, 0.125}, {129}});
  check_hopper<128>({{1, 128, 176, 1, 128, 0.088}, {176}});
  check_hopper<128>({{1, 129, 177, 1, 128, 0.088}, {177}});
}
// The ring of two stages goes round more than twice, for more tiles of queries than blocks.
TEST(AttentionHopper, ManyTiles) {
  check_hopper<64>({{1, 197, 641, 2, 64, 0.125}, {641}, 0, 1});
  check_hopper<128>({{2, 67, 887, 1, 128, 0.088}, {887}, 0, 1});
}
TEST(AttentionHopper, BlocksOfKeysInViews) {
  check_hopper<64>({{2, 61, 384, 3, 64, 0.125}, {127, 1, 256}, 0, 4, 24});
  check_hopper<128>({{2, 127, 356, 2, 128, 0.088}, {175, 5, 176}, 0, 3, 8});
}
TEST(AttentionHopper, LogSumExpMayBeFarFromZero) {
  for (const float shift : {28.0F, -28.0F})
    check_hopper<64>({{1, 16, 200, 1, 64, 0.125}, {137, 63}, shift});
  for (const float shift : {34.0F, -34.0F})
    check_hopper<128>({{1, 16, 200, 1, 128, 0.088}, {20, 180}, shift});
}

}  // namespace
}  // namespace pendulum::kernels
