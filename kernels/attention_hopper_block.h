// The work of one block of threads of the kernel for Hopper, in terms of what its warp groups can
// do.
//
// A block has a group (128 threads) that only copies and groups that only compute, 64 queries each,
// in the manner of FlashAttention-3 (Shah et al., arXiv 2407.08608):
//   * the copying group brings tiles of keys and values through the TMA into a ring of kStages
//     places each; `full` and `empty` barriers in shared memory say which side a place belongs to;
//   * the computing groups take turns at the tensor cores, so that one's exponentials run while
//     another's products do;
//   * within a group the products of a tile's scores and those of the former tile's values are
//   begun
//     together, and a tile's exponentials run while the former tile's values are multiplied.
// A block works on one tile of queries after the other: while a group writes one tile's output, the
// next one's operands arrive. Softmax is attention_rows.h's.
//
// Operands lie in shared memory as panels: rows of 64 elements (128 bytes), whose 16-byte chunks
// are swizzled within every 8 rows as TMA writes and wgmma reads them ("128-byte swizzle").
//
// `View` is a thread's view of its block: the GPU's instructions (attention_hopper.cu), or the same
// on a host (tests/hopper_emulation.h), so that addresses, descriptors, barriers and their order
// are tested without a GPU.
#pragma once
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/attention_rows.h"
#include "kernels/host_device.h"

namespace pendulum::kernels::hopper {

using accumulate::Fragment;
using accumulate::RowPlaces;
using accumulate::RowStatistics;

constexpr int kGroupThreads = 128;
constexpr int kGroupQueries = 64;  // the rows of a wgmma
constexpr int kStages = 2;
constexpr int kPanelColumns = 64;
constexpr unsigned kRowBytes = 128;
constexpr unsigned kEightRows = 8 * kRowBytes;  // what the swizzle repeats after

// The shape of a block. Registers are a thread's; an SM has 65536. With heads of 128 a computing
// thread holds 64 numbers of the output, 88 scores and 44 pairs of weights: 176 keys are the most
// that leave room for all else.
template <int Dim>
struct Shape;
template <>
struct Shape<128> {
  static constexpr int kGroups = 2;  // that compute
  static constexpr int kKeys = 176;  // of a tile
  static constexpr int kComputeRegisters = 240, kCopyRegisters = 24;
};
template <>
struct Shape<64> {
  static constexpr int kGroups = 3;
  static constexpr int kKeys = 128;
  static constexpr int kComputeRegisters = 160, kCopyRegisters = 32;
};

template <int Dim>
constexpr int kThreads = (Shape<Dim>::kGroups + 1) * kGroupThreads;
template <int Dim>
constexpr int kQueries = Shape<Dim>::kGroups* kGroupQueries;

// `Map` is a tensor map or what stands for one: see Tiling.
template <class Map>
struct Arguments {
  Map query, key, value;
  TokensView<float> merged;
  float* log_sum_exp;
  int queries, keys, heads;
  int query_tiles;  // in a head
  int work;         // tiles of queries in all heads of all samples
  float scale;      // of scores, and log2(e): exponentials are of base 2
};

// What a tensor map says: a tensor of (batch, token, head, element), last dimension first, of which
// one copy takes a panel of `box[2]` tokens. Tokens behind the last arrive as zeros.
struct Tiling {
  const void* data;
  uint64_t sizes[4];
  uint64_t byte_strides[3];  // of dimensions 1 to 3
  uint32_t box[4];
};

template <int Dim>
inline Tiling tiling_of(const TokensView<const bf16>& view, int64_t batch, int64_t tokens,
                        int64_t heads, int rows) {
  constexpr uint64_t kElement = sizeof(bf16);
  const uint64_t head = Dim * kElement;
  // A dimension of one element has no stride: whatever the view says there may be invalid.
  const uint64_t token = tokens == 1 ? heads * head : view.token_stride * kElement;
  const uint64_t sample = batch == 1 ? tokens * token : view.batch_stride * kElement;
  return {view.data,
          {Dim, static_cast<uint64_t>(heads), static_cast<uint64_t>(tokens),
           static_cast<uint64_t>(batch)},
          {head, token, sample},
          {kPanelColumns, 1, static_cast<uint32_t>(rows), 1}};
}

// A wgmma's operand in shared memory (PTX manual, "Matrix descriptor format"): bits 0-13 the
// address, 16-29 the leading and 32-45 the stride offset, all by 16; 62 says 128-byte swizzle.
PENDULUM_DEVICE uint64_t matrix(unsigned address, unsigned leading, unsigned stride) {
  return uint64_t{1} << 62 | static_cast<uint64_t>(stride >> 4) << 32 |
         static_cast<uint64_t>(leading >> 4) << 16 | (address & 0x3FFFF) >> 4;
}
// The same matrix further on; the sum stays within the address's bits.
PENDULUM_DEVICE uint64_t moved(uint64_t matrix, unsigned bytes) { return matrix + (bytes >> 4); }

// Where everything lies in a block's shared memory, which begins at a multiple of kEightRows: the
// swizzle goes by bits of the address.
template <int Dim>
struct Memory {
  static constexpr int kGroups = Shape<Dim>::kGroups;
  static constexpr unsigned kPanels = Dim / kPanelColumns;
  static constexpr unsigned kQueryPanel = kGroupQueries * kRowBytes;
  static constexpr unsigned kQueryBytes = kPanels * kQueryPanel;  // of a group
  static constexpr unsigned kKeyPanel = Shape<Dim>::kKeys * kRowBytes;
  static constexpr unsigned kKeyBytes = kPanels * kKeyPanel;  // of a tile; values alike
  static constexpr unsigned kBarriers = kGroups * kQueryBytes + 2 * kStages * kKeyBytes;
  static constexpr unsigned kBytes = kBarriers + (2 * kGroups + 4 * kStages) * 8;
  static_assert(kQueryPanel % kEightRows == 0 && kKeyPanel % kEightRows == 0);

  unsigned base;

  PENDULUM_DEVICE unsigned query(int group) const { return base + group * kQueryBytes; }
  PENDULUM_DEVICE unsigned key(int stage) const {
    return base + kGroups * kQueryBytes + stage * kKeyBytes;
  }
  PENDULUM_DEVICE unsigned value(int stage) const { return key(kStages + stage); }
  PENDULUM_DEVICE unsigned query_full(int group) const { return barrier(group); }
  PENDULUM_DEVICE unsigned query_empty(int group) const { return barrier(kGroups + group); }
  PENDULUM_DEVICE unsigned key_full(int stage) const { return barrier(2 * kGroups + stage); }
  PENDULUM_DEVICE unsigned key_empty(int stage) const { return key_full(kStages + stage); }
  PENDULUM_DEVICE unsigned value_full(int stage) const { return key_full(2 * kStages + stage); }
  PENDULUM_DEVICE unsigned value_empty(int stage) const { return key_full(3 * kStages + stage); }

 private:
  PENDULUM_DEVICE unsigned barrier(int number) const { return base + kBarriers + number * 8; }
};

// A place in a ring of stages. A barrier's phases are numbered by their parity: whoever waits for
// `full` waits for the end of the phase `parity`, whoever waits for `empty` for that before it,
// which at first counts as ended.
struct Position {
  int stage = 0;
  unsigned parity = 0;

  PENDULUM_DEVICE void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// A tile of queries. Neighbours share a head, whose keys and values the cache then brings once.
struct Work {
  int sample, head, first_query;
};

template <int Dim, class Map>
PENDULUM_DEVICE Work work_of(const Arguments<Map>& a, int number) {
  const int unit = number / a.query_tiles;
  return {unit / a.heads, unit % a.heads, number % a.query_tiles * kQueries<Dim>};
}

template <int Dim, class View>
PENDULUM_DEVICE void prepare_barriers(View& view, const Memory<Dim>& memory) {
  constexpr unsigned kGroupWarps = kGroupThreads / 32;
  constexpr unsigned kReaders = Shape<Dim>::kGroups * kGroupWarps;
  if (view.thread() == 0) {
    for (int group = 0; group < Shape<Dim>::kGroups; ++group) {
      view.init_barrier(memory.query_full(group), 1);
      view.init_barrier(memory.query_empty(group), kGroupWarps);
    }
    for (int stage = 0; stage < kStages; ++stage) {
      view.init_barrier(memory.key_full(stage), 1);
      view.init_barrier(memory.key_empty(stage), kReaders);
      view.init_barrier(memory.value_full(stage), 1);
      view.init_barrier(memory.value_empty(stage), kReaders);
    }
    view.publish_barriers();
  }
  view.sync_block();
}

// Begins to copy a head's tokens from `first` on, and tells the barrier how many bytes will come.
template <int Dim, unsigned Panel, class View, class Map>
PENDULUM_DEVICE void copy_tile(View& view, unsigned to, unsigned barrier, const Map& map,
                               const Work& work, int first) {
  view.arrive_expecting(barrier, Dim / kPanelColumns * Panel);
  for (int panel = 0; panel < Dim / kPanelColumns; ++panel) {
    view.copy_box(to + panel * Panel, map, panel * kPanelColumns, work.head, first, work.sample,
                  barrier);
  }
}

// One thread brings everything. Tiles of keys come last to first: that which ends where the keys
// end is the first, and no other needs a mask.
template <int Dim, class View, class Map>
PENDULUM_DEVICE void copy_all(View& view, const Arguments<Map>& a, const Memory<Dim>& memory) {
  constexpr int kKeys = Shape<Dim>::kKeys;
  constexpr unsigned kKeyPanel = Memory<Dim>::kKeyPanel, kQueryPanel = Memory<Dim>::kQueryPanel;
  Position keys, values;
  unsigned query_parity = 0;
  for (int number = view.block(); number < a.work; number += view.blocks()) {
    const Work work = work_of<Dim>(a, number);
    const auto copy_keys = [&](int tile) {
      view.await_phase(memory.key_empty(keys.stage), keys.parity ^ 1);
      copy_tile<Dim, kKeyPanel>(view, memory.key(keys.stage), memory.key_full(keys.stage), a.key,
                                work, tile * kKeys);
      keys.advance();
    };
    const auto copy_values = [&](int tile) {
      view.await_phase(memory.value_empty(values.stage), values.parity ^ 1);
      copy_tile<Dim, kKeyPanel>(view, memory.value(values.stage), memory.value_full(values.stage),
                                a.value, work, tile * kKeys);
      values.advance();
    };
    for (int group = 0; group < Shape<Dim>::kGroups; ++group) {
      view.await_phase(memory.query_empty(group), query_parity ^ 1);
      copy_tile<Dim, kQueryPanel>(view, memory.query(group), memory.query_full(group), a.query,
                                  work, work.first_query + group * kGroupQueries);
    }
    query_parity ^= 1;
    // In the order in which the products need them.
    int tile = (a.keys + kKeys - 1) / kKeys - 1;
    copy_keys(tile);
    for (; tile > 0; --tile) {
      copy_keys(tile - 1);
      copy_values(tile);
    }
    copy_values(0);
  }
}

// Begins scores (64 x kKeys) = the group's queries times the tile's keys. Both have their sum's
// index along the rows (K-major): 8 rows of a panel, then the next 8 at the stride offset; the
// leading offset has no meaning under a swizzle.
template <int Dim, class View>
PENDULUM_DEVICE void begin_scores(View& view, Fragment<Shape<Dim>::kKeys>& scores, unsigned query,
                                  unsigned keys) {
  const uint64_t left = matrix(query, 16, kEightRows), right = matrix(keys, 16, kEightRows);
  view.hold(scores);
  view.begin_products();
#pragma unroll
  for (int k = 0; k < Dim / 16; ++k) {
    const int panel = k * 16 / kPanelColumns;
    const unsigned within = k * 16 % kPanelColumns * sizeof(bf16);
    view.multiply(scores, moved(left, panel * Memory<Dim>::kQueryPanel + within),
                  moved(right, panel * Memory<Dim>::kKeyPanel + within), k > 0);
  }
  view.end_products();
}

// Begins out (64 x Dim) += weights (64 x kKeys) times the tile's values, whose sum's index runs
// across the rows (MN-major): 64 columns of a panel, then the next panel at the leading offset; 8
// rows, then the next 8 at the stride offset.
template <int Dim, class View>
PENDULUM_DEVICE void begin_values(View& view, Fragment<Dim>& out,
                                  unsigned (&weights)[Shape<Dim>::kKeys / 16][4], unsigned values) {
  const uint64_t right = matrix(values, Memory<Dim>::kKeyPanel, kEightRows);
  view.hold(out);
  view.hold(weights);
  view.begin_products();
#pragma unroll
  for (int k = 0; k < Shape<Dim>::kKeys / 16; ++k)
    view.multiply(out, weights[k], moved(right, k * 16 * kRowBytes));
  view.end_products();
}

// Each warp says that it has read a place: the four of a group finish their products one by one.
template <class View>
PENDULUM_DEVICE void release(View& view, unsigned empty_barrier) {
  if (view.thread() % 32 == 0) view.arrive(empty_barrier);
}

// The groups' turns at the tensor cores: group g waits for barrier 1 + g (0 is the whole block's),
// which the group before it comes to without waiting.
template <int Dim, class View>
PENDULUM_DEVICE void await_turn(View& view, int group) {
  view.sync_threads(1 + group, 2 * kGroupThreads);
}
template <int Dim, class View>
PENDULUM_DEVICE void pass_turn(View& view, int group) {
  view.arrive_threads(1 + (group + 1) % Shape<Dim>::kGroups, 2 * kGroupThreads);
}

// A group's numbers, all in registers.
template <int Dim>
struct Running {
  RowStatistics rows;
  Fragment<Dim> out;
  Fragment<Shape<Dim>::kKeys> scores;           // of a tile
  unsigned weights[Shape<Dim>::kKeys / 16][4];  // of the tile before, until its values are added
};

// Scores, which have become weights, take the former weights' place, for which the output is
// brought to the new reference: neither may be in use.
template <int Dim, class View>
PENDULUM_DEVICE void take_weights(View& view, Running<Dim>& r, const float (&shrink)[2]) {
  accumulate::shrink_output<Dim>(r.out, shrink);
#pragma unroll
  for (int k = 0; k < Shape<Dim>::kKeys / 16; ++k)
    accumulate::narrow_weights<Shape<Dim>::kKeys>(view, r.weights[k], r.scores, k);
}

// The tile that ends where the keys end. What earlier blocks of keys left is read meanwhile.
template <int Dim, class View, class Map>
PENDULUM_DEVICE void first_tile(View& view, Running<Dim>& r, const Arguments<Map>& a,
                                const Memory<Dim>& memory, int group, const RowPlaces& places,
                                int keys_left, Position& keys) {
  constexpr int kKeys = Shape<Dim>::kKeys;
  view.await_phase(memory.key_full(keys.stage), keys.parity);
  await_turn<Dim>(view, group);
  begin_scores<Dim>(view, r.scores, memory.query(group), memory.key(keys.stage));
  pass_turn<Dim>(view, group);
  accumulate::begin_rows<Dim>(view, r.rows, r.out, places);
  view.template await_products<0>();
  view.hold(r.scores);
  release(view, memory.key_empty(keys.stage));
  keys.advance();
  if (keys_left < kKeys) accumulate::mask<kKeys>(view, r.scores, keys_left);
  float shrink[2];
  accumulate::weigh<kKeys>(view, r.scores, r.rows, shrink, a.scale);
  take_weights<Dim>(view, r, shrink);
}

template <int Dim, class View>
PENDULUM_DEVICE void end_values(View& view, Running<Dim>& r, const Memory<Dim>& memory,
                                Position& values) {
  view.template await_products<0>();
  view.hold(r.out);
  view.hold(r.weights);
  release(view, memory.value_empty(values.stage));
  values.advance();
}

// Scores of the next tile and the former one's values.
template <int Dim, class View, class Map>
PENDULUM_DEVICE void next_tile(View& view, Running<Dim>& r, const Arguments<Map>& a,
                               const Memory<Dim>& memory, int group, Position& keys,
                               Position& values) {
  view.await_phase(memory.key_full(keys.stage), keys.parity);
  await_turn<Dim>(view, group);
  begin_scores<Dim>(view, r.scores, memory.query(group), memory.key(keys.stage));
  view.await_phase(memory.value_full(values.stage), values.parity);
  begin_values<Dim>(view, r.out, r.weights, memory.value(values.stage));
  pass_turn<Dim>(view, group);
  view.template await_products<1>();  // the scores are there, the values not yet
  view.hold(r.scores);
  release(view, memory.key_empty(keys.stage));
  keys.advance();
  float shrink[2];
  accumulate::weigh<Shape<Dim>::kKeys>(view, r.scores, r.rows, shrink, a.scale);
  view.finish(r.rows.sum);
  end_values<Dim>(view, r, memory, values);
  take_weights<Dim>(view, r, shrink);
}

// A group's part of a tile of queries, whose operands lie in `memory` or will.
template <int Dim, class View, class Map>
PENDULUM_DEVICE void attend(View& view, const Arguments<Map>& a, const Memory<Dim>& memory,
                            int group, const Work& work, Position& keys, Position& values) {
  constexpr int kKeys = Shape<Dim>::kKeys;
  const int tiles = (a.keys + kKeys - 1) / kKeys;
  const int row = view.thread() % kGroupThreads / 32 * 16 + view.thread() % 32 / 4;
  // Computed twice, so that it takes no registers in between.
  const auto places = [&] {
    return accumulate::places_of<Dim>(a.merged, a.log_sum_exp, a.queries, a.heads, work.sample,
                                      work.head, work.first_query + group * kGroupQueries + row);
  };
  Running<Dim> r;
  first_tile<Dim>(view, r, a, memory, group, places(), a.keys - (tiles - 1) * kKeys, keys);
  for (int tile = 1; tile < tiles; ++tile) next_tile<Dim>(view, r, a, memory, group, keys, values);
  release(view, memory.query_empty(group));
  view.await_phase(memory.value_full(values.stage), values.parity);
  begin_values<Dim>(view, r.out, r.weights, memory.value(values.stage));
  end_values<Dim>(view, r, memory, values);
  accumulate::end_rows<Dim>(view, r.rows, r.out, places());
}

template <int Dim, class View, class Map>
PENDULUM_DEVICE void attend_all(View& view, const Arguments<Map>& a, const Memory<Dim>& memory,
                                int group) {
  Position keys, values;
  unsigned query_parity = 0;
  if (group == Shape<Dim>::kGroups - 1) pass_turn<Dim>(view, group);  // group 0's turn is first
  for (int number = view.block(); number < a.work; number += view.blocks()) {
    view.await_phase(memory.query_full(group), query_parity);
    query_parity ^= 1;
    attend<Dim>(view, a, memory, group, work_of<Dim>(a, number), keys, values);
  }
  if (group == 0) await_turn<Dim>(view, group);  // that which the last group passed on last
}

template <int Dim, class View, class Map>
PENDULUM_DEVICE void accumulate_blocks(View& view, const Arguments<Map>& a) {
  using S = Shape<Dim>;
  static_assert((S::kGroups * S::kComputeRegisters + S::kCopyRegisters) * kGroupThreads <= 65536);
  const Memory<Dim> memory{view.shared()};
  prepare_barriers<Dim>(view, memory);
  // The copying group is the first, and the others' numbers begin behind it.
  const int group = view.thread() / kGroupThreads - 1;
  if (group < 0) {
    view.template give_registers<S::kCopyRegisters>();
    if (view.thread() == 0) copy_all<Dim>(view, a, memory);
  } else {
    view.template take_registers<S::kComputeRegisters>();
    attend_all<Dim>(view, a, memory, group);
  }
}

}  // namespace pendulum::kernels::hopper
