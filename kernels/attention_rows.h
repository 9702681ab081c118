// Softmax over the keys one tile after the other, for the two rows of scores that a lane shares
// with three others: a running reference, a running sum, and the output not yet divided by it
// (FlashAttention-2, Dao, arXiv 2307.08691), all of which begin with what earlier blocks of keys
// left. Both of our GPU kernels use it: mma.sync and wgmma lay an accumulator out alike, so that
// lane l holds rows l / 4 and l / 4 + 8 of its warp's 16, and of every 8 columns 2 (l % 4) and the
// next.
//
// `Warp` is a thread's view of its warp (attention_block.h, attention_hopper_block.h).
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/host_device.h"

namespace pendulum::kernels::accumulate {

constexpr float kLog2E = 1.44269504F;  // log2(e) to fp32, and what that leaves of it
constexpr float kLog2ERest = 1.92596299e-8F;
constexpr float kLn2 = 0.693147181F;

// Two numbers that are read and written as one.
struct alignas(8) Pair {
  float first, second;
};

// An accumulator of 16 rows and Columns columns, what a lane holds of it: [i][0] and [i][1] belong
// to row l / 4, [i][2] and [i][3] to row l / 4 + 8.
template <int Columns>
using Fragment = float[Columns / 8][4];

// What a lane carries of its two rows from tile to tile.
struct RowStatistics {
  float reference[2];  // exponents are taken relative to it, base 2
  float sum[2];        // this lane's part of the softmax's denominator
};

// Where a lane's two rows lie; rows behind the last are not real, and point at the first.
struct RowPlaces {
  float* merged[2];
  float* log_sum_exp[2];
  bool real[2];
};

// first_row is the lane's upper row.
template <int Dim>
PENDULUM_DEVICE RowPlaces places_of(const TokensView<float>& merged, float* log_sum_exp,
                                    int64_t queries, int64_t heads, int64_t sample, int64_t head,
                                    int64_t first_row) {
  RowPlaces places;
  float* const out = merged.data + sample * merged.batch_stride + head * Dim;
  float* const statistic = log_sum_exp + (sample * heads + head) * queries;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = first_row + 8 * half;
    places.real[half] = row < queries;
    places.merged[half] = out + (places.real[half] ? row : 0) * merged.token_stride;
    places.log_sum_exp[half] = statistic + (places.real[half] ? row : 0);
  }
  return places;
}

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

// Statistics and output as earlier blocks of keys left them.
template <int Dim, class Warp>
PENDULUM_DEVICE void begin_rows(Warp& warp, RowStatistics& rows, Fragment<Dim>& out,
                                const RowPlaces& places) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float log_sum_exp = places.real[half] ? *places.log_sum_exp[half] : -INFINITY;
    const bool has_earlier = log_sum_exp != -INFINITY;
    rows.reference[half] = has_earlier ? log_sum_exp * kLog2E : -INFINITY;
    // What the reference lost by rounding: exactly, by fused multiply-add.
    const float lost = fmaf(log_sum_exp, kLog2E, -rows.reference[half]) + log_sum_exp * kLog2ERest;
    const float weight = has_earlier ? exp2f(lost) : 0.0F;
    rows.sum[half] = lane % 4 == 0 ? weight : 0.0F;
#pragma unroll
    for (int j = 0; j < Dim / 8; ++j) {
      Pair earlier{0.0F, 0.0F};
      if (has_earlier)
        earlier = *reinterpret_cast<const Pair*>(places.merged[half] + j * 8 + lane % 4 * 2);
      out[j][2 * half] = earlier.first * weight;
      out[j][2 * half + 1] = earlier.second * weight;
    }
  }
}

// Keys from number keys_left on are not there.
template <int Keys, class Warp>
PENDULUM_DEVICE void mask(Warp& warp, Fragment<Keys>& scores, int64_t keys_left) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int j = 0; j < Keys / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (j * 8 + lane % 4 * 2 + i % 2 >= keys_left) scores[j][i] = -INFINITY;
    }
  }
}

// Scores of a tile become weights relative to a new reference. What the output has summed before is
// to be multiplied by `shrink`, which brings it to that reference.
template <int Keys, class Warp>
PENDULUM_DEVICE void weigh(Warp& warp, Fragment<Keys>& scores, RowStatistics& rows,
                           float (&shrink)[2], float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < Keys / 8; ++j)
      largest = fmaxf(largest, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
    const float before = rows.reference[half];
    // A row all of whose scores are -infinity keeps a finite reference.
    const float reference = fmaxf(fmaxf(before, row_max(warp, largest) * scale), -3.0e38F);
    shrink[half] = warp.power_of_two(before - reference);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < Keys / 8; ++j) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        scores[j][i] = warp.power_of_two(fmaf(scores[j][i], scale, -reference));
        sum += scores[j][i];
      }
    }
    rows.reference[half] = reference;
    rows.sum[half] = rows.sum[half] * shrink[half] + sum;
  }
}

template <int Dim>
PENDULUM_DEVICE void shrink_output(Fragment<Dim>& out, const float (&shrink)[2]) {
#pragma unroll
  for (int j = 0; j < Dim / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[j][i] *= shrink[i / 2];
  }
}

// Weights of 16 keys, from key 16 k on, as the left operand of a product in bf16.
template <int Keys, class Warp>
PENDULUM_DEVICE void narrow_weights(Warp& warp, unsigned (&narrow)[4],
                                    const Fragment<Keys>& weights, int k) {
  const float(&low)[4] = weights[2 * k];
  const float(&high)[4] = weights[2 * k + 1];
  narrow[0] = warp.pair_of(low[0], low[1]);
  narrow[1] = warp.pair_of(low[2], low[3]);
  narrow[2] = warp.pair_of(high[0], high[1]);
  narrow[3] = warp.pair_of(high[2], high[3]);
}

// Every lane takes part; only real rows are written.
template <int Dim, class Warp>
PENDULUM_DEVICE void end_rows(Warp& warp, const RowStatistics& rows, const Fragment<Dim>& out,
                              const RowPlaces& places) {
  const int lane = warp.thread() % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = row_sum(warp, rows.sum[half]);
    if (!places.real[half]) continue;
    const float share = 1.0F / sum;
#pragma unroll
    for (int j = 0; j < Dim / 8; ++j) {
      *reinterpret_cast<Pair*>(places.merged[half] + j * 8 + lane % 4 * 2) = {
          out[j][2 * half] * share, out[j][2 * half + 1] * share};
    }
    if (lane % 4 == 0) *places.log_sum_exp[half] = (rows.reference[half] + log2f(sum)) * kLn2;
  }
}

}  // namespace pendulum::kernels::accumulate
