// The work of one block of threads of the kernel for any GPU from Ampere on, in terms of what a
// warp can do.
//
// A block owns 16 queries of one head a warp and walks the keys in tiles of kKeys, the next tile on
// its way while this one is worked on. Softmax is attention_rows.h's.
//
// `Warp` is a thread's view of its warp and block: the GPU's instructions (attention.cu), or the
// same by plain loops (tests/warp_emulation.h), so that all index arithmetic is tested without a
// GPU.
#pragma once
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/attention_rows.h"
#include "kernels/host_device.h"

namespace pendulum::kernels::accumulate {

constexpr int kKeys = 64;
constexpr int kStages = 2;  // tiles in memory: this one and the next

struct Arguments {
  TokensView<float> merged;
  float* log_sum_exp;
  TokensView<const bf16> query, key, value;
  int64_t queries, keys, heads;
  int64_t tiles;  // of queries, in a head
  float scale;    // of scores, and log2(e): exponentials are of base 2
};

// Rows of Dim elements in shared memory, in chunks of 8 elements (16 bytes). A chunk's place is its
// number xor the row's, so that 8 rows of one column lie in 8 different sets of banks.
template <int Dim>
PENDULUM_DEVICE unsigned place(int row, int chunk) {
  return static_cast<unsigned>(row * Dim + ((chunk ^ (row & 7)) * 8)) * sizeof(bf16);
}

// Bytes of a tile of keys, or of values; of all that a block holds.
template <int Dim>
constexpr unsigned kTileBytes = kKeys* Dim * sizeof(bf16);
template <int Dim>
constexpr unsigned kSharedBytes = kStages * 2 * kTileBytes<Dim>;

// Begins to copy Rows tokens of a head from token `first`; those from `count` on are zero.
template <int Dim, int Rows, class Warp>
PENDULUM_DEVICE void copy_rows(Warp& warp, unsigned to, const bf16* head, int64_t stride,
                               int64_t first, int64_t count) {
  constexpr int kChunks = Dim / 8;
  for (int i = warp.thread(); i < Rows * kChunks; i += Warp::kWarps * 32) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    const bool real = first + row < count;
    warp.copy_chunk(to + place<Dim>(row, chunk),
                    head + (real ? (first + row) * stride : 0) + chunk * 8, real);
  }
}

// scores (16 x kKeys) = the warp's queries times the tile's keys.
template <int Dim, class Warp>
PENDULUM_DEVICE void score(Warp& warp, Fragment<kKeys>& scores,
                           const unsigned (&query)[Dim / 16][4], unsigned keys) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[j][i] = 0;
  }
#pragma unroll
  for (int k = 0; k < Dim / 16; ++k) {
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
      unsigned b[4];  // two columns of 8 keys, two halves of 8 elements each
      warp.load_matrices(
          b, keys + place<Dim>(j * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
      warp.multiply(scores[2 * j], query[k], b[0], b[1]);
      warp.multiply(scores[2 * j + 1], query[k], b[2], b[3]);
    }
  }
}

// out (16 x Dim) += weights (16 x kKeys) times the tile's values.
template <int Dim, class Warp>
PENDULUM_DEVICE void add_values(Warp& warp, Fragment<Dim>& out, const Fragment<kKeys>& weights,
                                unsigned values) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    unsigned a[4];
    narrow_weights<kKeys>(warp, a, weights, k);
#pragma unroll
    for (int j = 0; j < Dim / 16; ++j) {
      unsigned b[4];  // two columns of 8 elements, two halves of 8 keys each
      warp.load_transposed(b, values + place<Dim>(k * 16 + lane % 16, j * 2 + lane / 16));
      warp.multiply(out[2 * j], a, b[0], b[1]);
      warp.multiply(out[2 * j + 1], a, b[2], b[3]);
    }
  }
}

// Block number `block` of all.
template <int Dim, class Warp>
PENDULUM_DEVICE void accumulate_block(Warp& warp, const Arguments& a, int64_t block) {
  constexpr int kQueries = 16 * Warp::kWarps;
  constexpr unsigned kTile = kTileBytes<Dim>;
  static_assert(kQueries * Dim * sizeof(bf16) <= kSharedBytes<Dim>);
  const unsigned shared = warp.shared();
  const int lane = warp.thread() % 32;
  const int first_row = warp.thread() / 32 * 16;  // of the block's queries
  const int64_t unit = block / a.tiles;
  const int64_t first_query = block % a.tiles * kQueries;
  const int64_t batch = unit / a.heads;
  const int64_t head = unit % a.heads;
  const auto head_of = [&](auto view) {
    return view.data + batch * view.batch_stride + head * Dim;
  };

  // The warp's queries stay in registers; the memory that brought them then holds keys and values.
  copy_rows<Dim, kQueries>(warp, shared, head_of(a.query), a.query.token_stride, first_query,
                           a.queries);
  warp.end_of_copies();
  warp.template await_copies<0>();
  warp.sync_block();
  unsigned query[Dim / 16][4];
#pragma unroll
  for (int k = 0; k < Dim / 16; ++k)
    warp.load_matrices(query[k], shared + place<Dim>(first_row + lane % 16, k * 2 + lane / 16));
  warp.sync_block();

  const RowPlaces places = places_of<Dim>(a.merged, a.log_sum_exp, a.queries, a.heads, batch, head,
                                          first_query + first_row + lane / 4);
  RowStatistics rows;
  Fragment<Dim> out;
  begin_rows<Dim>(warp, rows, out, places);

  const int64_t tiles = (a.keys + kKeys - 1) / kKeys;
  const auto copy_tile = [&](int64_t tile) {
    const unsigned to = shared + static_cast<unsigned>(tile % kStages) * 2 * kTile;
    copy_rows<Dim, kKeys>(warp, to, head_of(a.key), a.key.token_stride, tile * kKeys, a.keys);
    copy_rows<Dim, kKeys>(warp, to + kTile, head_of(a.value), a.value.token_stride, tile * kKeys,
                          a.keys);
    warp.end_of_copies();
  };
  copy_tile(0);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      copy_tile(tile + 1);
      warp.template await_copies<1>();
    } else {
      warp.template await_copies<0>();
    }
    warp.sync_block();  // every thread's copies have arrived
    const unsigned keys = shared + static_cast<unsigned>(tile % kStages) * 2 * kTile;
    Fragment<kKeys> scores;
    float shrink[2];
    score<Dim>(warp, scores, query, keys);
    if (a.keys - tile * kKeys < kKeys) mask<kKeys>(warp, scores, a.keys - tile * kKeys);
    weigh<kKeys>(warp, scores, rows, shrink, a.scale);
    shrink_output<Dim>(out, shrink);
    add_values<Dim>(warp, out, scores, keys + kTile);
    warp.sync_block();  // nobody reads this tile's memory any more
  }
  end_rows<Dim>(warp, rows, out, places);
}

}  // namespace pendulum::kernels::accumulate
