// The work of one block of threads of accumulate_attention_cuda, in terms of what a warp can do.
//
// A block owns 16 queries of one head a warp and walks the keys in tiles of kKeys, the next tile on
// its way while this one is worked on. Softmax as in FlashAttention-2 (Dao, arXiv 2307.08691): a
// running reference, a running sum, and the output not yet divided by it, all of which begin with
// what earlier blocks of keys left.
//
// `Warp` is a thread's view of its warp and block: the GPU's instructions (attention.cu), or the
// same by plain loops (tests/warp_emulation.h), so that all index arithmetic is tested without a
// GPU.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/attention.h"

#ifdef __CUDACC__
#define PENDULUM_DEVICE __device__ inline
#else
#define PENDULUM_DEVICE inline
#endif

namespace pendulum::kernels::accumulate {

constexpr int kKeys = 64;
constexpr int kStages = 2;             // tiles in memory: this one and the next
constexpr float kLog2E = 1.44269504F;  // log2(e) to fp32, and what that leaves of it
constexpr float kLog2ERest = 1.92596299e-8F;
constexpr float kLn2 = 0.693147181F;

// Two numbers that are read and written as one.
struct alignas(8) Pair {
  float first, second;
};

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

// The four lanes that share a row of an accumulator.
template <class Warp>
PENDULUM_DEVICE float row_max(Warp& warp, float x) {
  x = fmaxf(x, warp.from_lane_xor(x, 1));
  return fmaxf(x, warp.from_lane_xor(x, 2));
}
template <class Warp>
PENDULUM_DEVICE float row_sum(Warp& warp, float x) {
  x += warp.from_lane_xor(x, 1);
  return x + warp.from_lane_xor(x, 2);
}

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

// What a lane carries of two rows of queries, l / 4 and l / 4 + 8 of its warp's 16.
template <int Dim>
struct Rows {
  float out[Dim / 8][4];  // not yet divided by `sum`
  float reference[2];     // exponents are taken relative to it, base 2
  float sum[2];           // this lane's part of the softmax's denominator
};

template <int Dim, class Warp>
PENDULUM_DEVICE void begin_rows(Warp& warp, Rows<Dim>& rows, const float* (&merged)[2],
                                const float (&log_sum_exp)[2], const bool (&real)[2]) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool has_earlier = real[half] && log_sum_exp[half] != -INFINITY;
    rows.reference[half] = has_earlier ? log_sum_exp[half] * kLog2E : -INFINITY;
    // What the reference lost by rounding: exactly, by fused multiply-add.
    const float lost =
        fmaf(log_sum_exp[half], kLog2E, -rows.reference[half]) + log_sum_exp[half] * kLog2ERest;
    const float weight = has_earlier ? exp2f(lost) : 0.0F;
    rows.sum[half] = lane % 4 == 0 ? weight : 0.0F;
#pragma unroll
    for (int j = 0; j < Dim / 8; ++j) {
      Pair earlier{0.0F, 0.0F};
      if (has_earlier)
        earlier = *reinterpret_cast<const Pair*>(merged[half] + j * 8 + lane % 4 * 2);
      rows.out[j][2 * half] = earlier.first * weight;
      rows.out[j][2 * half + 1] = earlier.second * weight;
    }
  }
}

// Scores of a tile become weights relative to a new reference; what was summed before is brought to
// it.
template <int Dim, class Warp>
PENDULUM_DEVICE void weigh(Warp& warp, float (&scores)[kKeys / 8][4], Rows<Dim>& rows, float scale,
                           int64_t keys_left) {
  const int lane = warp.thread() % 32;
  if (keys_left < kKeys) {
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (j * 8 + lane % 4 * 2 + i % 2 >= keys_left) scores[j][i] = -INFINITY;
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
      largest = fmaxf(largest, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
    const float before = rows.reference[half];
    // A row all of whose scores are -infinity keeps a finite reference.
    const float reference = fmaxf(fmaxf(before, row_max(warp, largest) * scale), -3.0e38F);
    const float shrink = warp.power_of_two(before - reference);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        scores[j][i] = warp.power_of_two(fmaf(scores[j][i], scale, -reference));
        sum += scores[j][i];
      }
    }
    rows.reference[half] = reference;
    rows.sum[half] = rows.sum[half] * shrink + sum;
#pragma unroll
    for (int j = 0; j < Dim / 8; ++j) {
      rows.out[j][2 * half] *= shrink;
      rows.out[j][2 * half + 1] *= shrink;
    }
  }
}

// scores (16 x kKeys) = the warp's queries times the tile's keys.
template <int Dim, class Warp>
PENDULUM_DEVICE void score(Warp& warp, float (&scores)[kKeys / 8][4],
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
PENDULUM_DEVICE void add_values(Warp& warp, Rows<Dim>& rows, const float (&weights)[kKeys / 8][4],
                                unsigned values) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    const float(&low)[4] = weights[2 * k];
    const float(&high)[4] = weights[2 * k + 1];
    const unsigned a[4] = {warp.pair_of(low[0], low[1]), warp.pair_of(low[2], low[3]),
                           warp.pair_of(high[0], high[1]), warp.pair_of(high[2], high[3])};
#pragma unroll
    for (int j = 0; j < Dim / 16; ++j) {
      unsigned b[4];  // two columns of 8 elements, two halves of 8 keys each
      warp.load_transposed(b, values + place<Dim>(k * 16 + lane % 16, j * 2 + lane / 16));
      warp.multiply(rows.out[2 * j], a, b[0], b[1]);
      warp.multiply(rows.out[2 * j + 1], a, b[2], b[3]);
    }
  }
}

template <int Dim, class Warp>
PENDULUM_DEVICE void end_rows(Warp& warp, Rows<Dim>& rows, float* (&merged)[2],
                              float* (&log_sum_exp)[2], const bool (&real)[2]) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = row_sum(warp, rows.sum[half]);
    if (!real[half]) continue;
    const float share = 1.0F / sum;
#pragma unroll
    for (int j = 0; j < Dim / 8; ++j) {
      *reinterpret_cast<Pair*>(merged[half] + j * 8 + lane % 4 * 2) = {
          rows.out[j][2 * half] * share, rows.out[j][2 * half + 1] * share};
    }
    if (lane % 4 == 0) *log_sum_exp[half] = (rows.reference[half] + log2f(sum)) * kLn2;
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

  float* merged[2];
  float* log_sum_exp[2];
  float earlier[2];
  bool real[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = first_query + first_row + lane / 4 + 8 * half;
    real[half] = row < a.queries;
    merged[half] = head_of(a.merged) + (real[half] ? row : 0) * a.merged.token_stride;
    log_sum_exp[half] = a.log_sum_exp + unit * a.queries + (real[half] ? row : 0);
    earlier[half] = real[half] ? *log_sum_exp[half] : -INFINITY;
  }
  const float* read[2] = {merged[0], merged[1]};
  Rows<Dim> rows;
  begin_rows(warp, rows, read, earlier, real);

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
    float scores[kKeys / 8][4];
    score<Dim>(warp, scores, query, keys);
    weigh(warp, scores, rows, a.scale, a.keys - tile * kKeys);
    add_values(warp, rows, scores, keys + kTile);
    warp.sync_block();  // nobody reads this tile's memory any more
  }
  end_rows(warp, rows, merged, log_sum_exp, real);
}

}  // namespace pendulum::kernels::accumulate

#undef PENDULUM_DEVICE
