// A block of Hopper threads on a host: what kernels/attention_hopper_block.h asks of a block, as
// the PTX manual says it (sections on wgmma, cp.async.bulk.tensor, mbarrier and bar). What is begun
// and not yet waited for happens early or late (Order); meanwhile memory that a copy is on its way
// to holds NaN, and accumulators of products a number that shows where it is read or written.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "coroutines.h"
#include "kernels/attention_hopper_block.h"
#include "warp_emulation.h"

namespace pendulum::kernels {

// Bits 4 to 6 of an address in shared memory, xor bits 7 to 9.
inline unsigned swizzled_128(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

// When copies arrive that are on their way, and when products are computed that have begun: as late
// as can be (the latest of several copies first, if so called), at once, or as chance has it.
enum class When { kLate, kLatestFirst, kAtOnce, kByChance };
struct Order {
  When copies, products;
};
// An order's number also says how warps take turns (Coroutines): in the first, the copying warp is
// always ahead.
inline constexpr std::array<Order, 8> kOrders{{{When::kLate, When::kLate},
                                               {When::kAtOnce, When::kLate},
                                               {When::kLatestFirst, When::kAtOnce},
                                               {When::kByChance, When::kByChance},
                                               {When::kAtOnce, When::kAtOnce},
                                               {When::kLatestFirst, When::kLate},
                                               {When::kByChance, When::kLate},
                                               {When::kLate, When::kAtOnce}}};

class HopperBlock {
 public:
  static constexpr unsigned kBase = 3 * hopper::kEightRows;  // where a block's memory begins

  HopperBlock(int threads, unsigned bytes, size_t order)
      : coroutines(order),
        order_(kOrders[order]),
        threads_(threads),
        memory_(kBase + bytes, 0xFF),
        warps_(static_cast<size_t>(threads / 32)) {}

  // Body takes the number of a thread.
  std::string run(const std::function<void(int)>& body) {
    std::string failure =
        coroutines.run(threads_, body, [&](bool must) { return arrive_one(must); });
    if (!failure.empty()) return failure;
    if (!copies_.empty()) return "a copy is still on its way";
    for (const auto& [id, barrier] : named_) {
      if (barrier.come != 0) return "somebody came to a barrier where nobody waits";
    }
    for (const Warp& warp : warps_) {
      if (!warp.batches.empty()) return "products that nobody has waited for";
    }
    return "";
  }

  // Barriers in shared memory.
  void init(unsigned address, unsigned arrivals) {
    if (address % 8 != 0 || address + 8 > memory_.size()) coroutines.fail("a barrier out of place");
    if (!barriers_.emplace(address, Barrier{arrivals, arrivals, 0, 0}).second)
      coroutines.fail("a barrier that exists");
  }
  void arrive(unsigned address, unsigned bytes) {
    Barrier& barrier = at(address);
    barrier.bytes += bytes;
    if (barrier.missing == 0) coroutines.fail("more have come to a barrier than it expects");
    --barrier.missing;
    end_phase(barrier);
  }
  void await(unsigned address, unsigned parity) {
    const Barrier& barrier = at(address);
    coroutines.wait([&] { return (barrier.phase & 1) != parity; });
  }

  // Barriers by number.
  void named(int id, int count, bool waits) {
    if (id < 0 || id > 15) coroutines.fail("there are 16 barriers");
    Named& barrier = named_[id];
    if (barrier.come == 0) barrier.count = count;
    if (barrier.count != count) coroutines.fail("a barrier of two counts");
    const uint64_t before = barrier.passed;
    if (++barrier.come == count) {
      barrier.come = 0;
      ++barrier.passed;
    }
    if (waits) coroutines.wait([&barrier, before] { return barrier.passed != before; });
  }

  // The TMA.
  void copy(unsigned to, const hopper::Tiling& map, const std::array<int, 4>& from,
            unsigned barrier) {
    if (to % 128 != 0) coroutines.fail("a copy to what is no multiple of 128");
    const unsigned bytes = 2 * map.box[0] * map.box[1] * map.box[2] * map.box[3];
    if (map.box[0] * 2 > 128 || map.box[1] != 1 || map.box[2] > 256 || map.box[3] != 1)
      coroutines.fail("a box that the swizzle does not take");
    for (const auto& [address, unused] : barriers_) {
      if (address + 8 > to && address < to + bytes) coroutines.fail("a copy over a barrier");
    }
    std::memset(&memory_.at(to + bytes - 1) - (bytes - 1), 0xFF, bytes);
    copies_.push_back({to, &map, from, barrier, bytes});
    if (order_.copies == When::kAtOnce) arrive_one(true);
  }

  // What the lanes of a warp show each other.
  float exchange(int thread, float x, int lanes) {
    Warp& warp = warps_[static_cast<size_t>(thread / 32)];
    warp.shown[static_cast<size_t>(thread % 32)] = x;
    together(thread);
    const float other = warp.shown[static_cast<size_t>(thread % 32 ^ lanes)];
    together(thread);
    return other;
  }

  // Products.
  void begin_batch(int thread) { lane(thread).has_fence = true; }
  void product(int thread, int columns, float* c, const unsigned* a_registers, uint64_t a,
               uint64_t b, bool add) {
    Lane& l = lane(thread);
    if (!l.has_fence) coroutines.fail("a product before wgmma.fence");
    Warp& warp = warps_[static_cast<size_t>(thread / 32)];
    while (l.batch >= warp.ended + warp.batches.size()) warp.batches.emplace_back();
    Batch& batch = warp.batches[l.batch - warp.ended];
    if (l.product == batch.products.size()) batch.products.push_back({columns, a, b, add, {}, {}});
    Product& p = batch.products[l.product++];
    if (p.columns != columns || p.a != a || p.b != b || p.add != add)
      coroutines.fail("the lanes of a warp differ about a product");
    const auto number = static_cast<size_t>(thread % 32);
    p.c[number] = c;
    p.a_registers[number] = a_registers;
    take_registers(warp, batch, number, c, static_cast<size_t>(columns / 2));
  }
  void end_batch(int thread) {
    Lane& l = lane(thread);
    l.has_fence = false;
    l.product = 0;
    Warp& warp = warps_[static_cast<size_t>(thread / 32)];
    Batch& batch = warp.batches.at(l.batch++ - warp.ended);
    const bool at_once = order_.products == When::kAtOnce ||
                         (order_.products == When::kByChance && coroutines.toss());
    if (++batch.lanes == 32 && at_once) multiply(thread / 32, batch);
  }
  void await_batches(int thread, size_t open) {
    Warp& warp = warps_[static_cast<size_t>(thread / 32)];
    const size_t ended = lane(thread).batch - std::min<size_t>(open, lane(thread).batch);
    together(thread);
    // A warp group's products are begun by all of its warps.
    const int first = thread / 128 * 4;
    coroutines.wait([&, ended, first] {
      return std::all_of(&warps_[first], &warps_[first] + 4, [&](const Warp& other) {
        return other.ended + other.batches.size() >= ended &&
               (other.ended >= ended || other.batches[ended - 1 - other.ended].lanes == 32);
      });
    });
    while (warp.ended < ended) end_first(thread / 32);
    together(thread);
  }

  Coroutines coroutines;

 private:
  struct Barrier {
    unsigned arrivals, missing;
    int64_t bytes;
    uint64_t phase;
  };
  struct Named {
    int come = 0, count = 0;
    uint64_t passed = 0;
  };
  struct Copy {
    unsigned to;
    const hopper::Tiling* map;
    std::array<int, 4> from;
    unsigned barrier, bytes;
  };
  struct Product {
    int columns;
    uint64_t a, b;
    bool add;
    std::array<float*, 32> c;
    std::array<const unsigned*, 32> a_registers;
  };
  struct Batch {
    std::vector<Product> products;
    // Accumulators by where they are: what they are while the registers hold kInUse.
    std::array<std::map<float*, std::vector<float>>, 32> registers;
    int lanes = 0;  // that have begun all of it
    bool is_done = false;
  };
  struct Lane {
    size_t batch = 0, product = 0;  // the next to begin
    bool has_fence = false;
  };
  struct Warp {
    std::deque<Batch> batches;  // not yet waited for
    size_t ended = 0;           // those before
    std::array<Lane, 32> lanes;
    std::array<float, 32> shown;
    int come = 0;
    uint64_t passed = 0;
  };

  Lane& lane(int thread) {
    return warps_[static_cast<size_t>(thread / 32)].lanes[static_cast<size_t>(thread % 32)];
  }
  void together(int thread) {
    Warp& warp = warps_[static_cast<size_t>(thread / 32)];
    const uint64_t before = warp.passed;
    if (++warp.come == 32) {
      warp.come = 0;
      ++warp.passed;
    }
    coroutines.wait([&warp, before] { return warp.passed != before; });
  }

  Barrier& at(unsigned address) {
    const auto found = barriers_.find(address);
    if (found == barriers_.end()) coroutines.fail("there is no barrier");
    return found->second;
  }
  static void end_phase(Barrier& barrier) {
    if (barrier.missing != 0 || barrier.bytes != 0) return;
    barrier.missing = barrier.arrivals;
    ++barrier.phase;
  }

  // A copy arrives where one must, or by chance.
  bool arrive_one(bool must) {
    const bool by_chance = order_.copies == When::kByChance;
    if (copies_.empty() || (!must && (!by_chance || !coroutines.toss()))) return false;
    const bool is_last = order_.copies == When::kLatestFirst || (by_chance && coroutines.toss());
    const auto which = is_last ? copies_.end() - 1 : copies_.begin();
    const Copy copy = *which;
    copies_.erase(which);
    const hopper::Tiling& m = *copy.map;
    for (unsigned row = 0; row < m.box[2]; ++row) {
      for (unsigned column = 0; column < m.box[0]; ++column) {
        const unsigned address = copy.to + row * m.box[0] * 2 + column * 2;
        const uint16_t bits = element(m, {copy.from[0] + static_cast<int>(column), copy.from[1],
                                          copy.from[2] + static_cast<int>(row), copy.from[3]});
        std::memcpy(&memory_.at(swizzled_128(address)), &bits, 2);
      }
    }
    Barrier& barrier = barriers_.at(copy.barrier);
    barrier.bytes -= copy.bytes;
    end_phase(barrier);
    return true;
  }
  static uint16_t element(const hopper::Tiling& m, const std::array<int, 4>& index) {
    const auto* at = static_cast<const unsigned char*>(m.data) + index[0] * sizeof(uint16_t);
    for (size_t i = 0; i < 4; ++i) {
      if (index[i] < 0 || static_cast<uint64_t>(index[i]) >= m.sizes[i]) return 0;
      if (i > 0) at += static_cast<uint64_t>(index[i]) * m.byte_strides[i - 1];
    }
    uint16_t bits = 0;
    std::memcpy(&bits, at, 2);
    return bits;
  }

  void take_registers(const Warp& warp, Batch& batch, size_t number, float* c, size_t count) {
    auto& mine = batch.registers[number];
    if (mine.contains(c)) return;
    for (const Batch& other : warp.batches) {
      if (other.registers[number].contains(c))
        coroutines.fail("an accumulator of two batches that are not waited for");
    }
    mine.emplace(c, std::vector<float>(c, c + count));
    std::fill_n(c, count, kInUse);
  }
  void end_first(int number) {
    Warp& warp = warps_[static_cast<size_t>(number)];
    Batch& batch = warp.batches.front();
    multiply(number, batch);
    for (const auto& of_lane : batch.registers) {
      for (const auto& [c, values] : of_lane) {
        if (!std::all_of(c, c + values.size(), [](float x) { return x == kInUse; }))
          coroutines.fail("an accumulator is written while products use it");
        std::copy(values.begin(), values.end(), c);
      }
    }
    warp.batches.pop_front();
    ++warp.ended;
  }

  void multiply(int number, Batch& batch) {
    if (batch.is_done) return;
    batch.is_done = true;
    for (const Product& p : batch.products) {
      std::array<std::array<float, 16>, 16> left;  // [row][k]
      for (int row = 0; row < 16; ++row) {
        for (int k = 0; k < 16; ++k)
          left[row][k] = p.a_registers[0] == nullptr ? along_rows(p.a, number % 4 * 16 + row, k)
                                                     : of_registers(p.a_registers, row, k);
      }
      std::vector<std::array<float, 16>> right(static_cast<size_t>(p.columns));  // [column][k]
      for (int column = 0; column < p.columns; ++column) {
        for (int k = 0; k < 16; ++k)
          right[column][k] = p.a_registers[0] == nullptr ? along_rows(p.b, column, k)
                                                         : across_rows(p.b, column, k);
      }
      for (size_t l = 0; l < 32; ++l) {
        std::vector<float>& c = batch.registers[l].at(p.c[l]);
        for (int i = 0; i < p.columns / 2; ++i) {
          const auto row = l / 4 + i % 4 / 2 * 8;
          const auto column = i / 4 * 8 + l % 4 * 2 + i % 2;
          float sum = p.add ? c[i] : 0.0F;
          for (int k = 0; k < 16; ++k) sum += left[row][k] * right[column][k];
          c[i] = sum;
        }
      }
    }
  }

  // An operand by its descriptor: element k of row (or column) i.
  static unsigned field(uint64_t matrix, int first) {
    return static_cast<unsigned>(matrix >> first & 0x3FFF) << 4;
  }
  void check(uint64_t matrix) {
    if (matrix >> 62 != 1) coroutines.fail("a matrix without 128-byte swizzle");
    if ((matrix & ~(0xC000000000000000 | 0x3FFF3FFF3FFF)) != 0)
      coroutines.fail("a matrix's unused bits, or a base offset");
    if ((field(matrix, 0) >> 7 & 7) != 0) coroutines.fail("a matrix inside 8 swizzled rows");
  }
  float read(unsigned address) {
    uint16_t bits = 0;
    std::memcpy(&bits, &memory_.at(swizzled_128(address)), 2);
    return widen(bits);
  }
  // K-major: 8 rows of 128 bytes, the next 8 at the stride offset.
  float along_rows(uint64_t matrix, int i, int k) {
    check(matrix);
    return read(field(matrix, 0) + i / 8 * field(matrix, 32) + i % 8 * 128 + k * 2);
  }
  // MN-major: 64 elements along a row, the next 64 at the leading offset; 8 rows, the next 8 at the
  // stride offset.
  float across_rows(uint64_t matrix, int i, int k) {
    check(matrix);
    return read(field(matrix, 0) + i / 64 * field(matrix, 16) + k / 8 * field(matrix, 32) +
                k % 8 * 128 + i % 64 * 2);
  }
  // As mma.m16n8k16: register 0 holds rows 0-7 of columns 0-7, 1 rows 8-15 of them, 2 and 3 those
  // of columns 8-15.
  static float of_registers(const std::array<const unsigned*, 32>& a, int row, int k) {
    const unsigned word = a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
    return widen(static_cast<uint16_t>(k % 2 == 0 ? word : word >> 16));
  }

  static constexpr float kInUse = 0x1.8p100F;

  const Order order_;
  const int threads_;
  std::vector<unsigned char> memory_;
  std::map<unsigned, Barrier> barriers_;
  std::map<int, Named> named_;
  std::deque<Copy> copies_;
  std::vector<Warp> warps_;
};

// A thread's view of the block.
class HopperThread {
 public:
  HopperThread(HopperBlock& of, int thread, int threads, int block, int blocks)
      : of_(of), thread_(thread), threads_(threads), block_(block), blocks_(blocks) {}

  int thread() const { return thread_; }
  int block() const { return block_; }
  int blocks() const { return blocks_; }
  static unsigned shared() { return HopperBlock::kBase; }
  float from_lane_xor(float x, int lanes) { return of_.exchange(thread_, x, lanes); }
  static unsigned pair_of(float low, float high) {
    return narrow(low) | static_cast<unsigned>(narrow(high)) << 16;
  }
  static float power_of_two(float x) { return std::exp2(x); }
  template <int Registers>
  void give_registers() {}
  template <int Registers>
  void take_registers() {}
  void sync_block() { of_.named(0, threads_, true); }
  void sync_threads(int barrier, int count) { of_.named(barrier, count, true); }
  void arrive_threads(int barrier, int count) { of_.named(barrier, count, false); }
  void init_barrier(unsigned barrier, unsigned arrivals) { of_.init(barrier, arrivals); }
  void publish_barriers() {}
  void arrive(unsigned barrier) { of_.arrive(barrier, 0); }
  void arrive_expecting(unsigned barrier, unsigned bytes) { of_.arrive(barrier, bytes); }
  void await_phase(unsigned barrier, unsigned parity) { of_.await(barrier, parity); }
  void copy_box(unsigned to, const hopper::Tiling& map, int element, int head, int token,
                int sample, unsigned barrier) {
    of_.copy(to, map, {element, head, token, sample}, barrier);
  }
  void begin_products() { of_.begin_batch(thread_); }
  void end_products() { of_.end_batch(thread_); }
  template <int Open>
  void await_products() {
    of_.await_batches(thread_, Open);
  }
  template <int Groups>
  void multiply(float (&c)[Groups][4], uint64_t a, uint64_t b, bool add) {
    of_.product(thread_, Groups * 8, &c[0][0], nullptr, a, b, add);
  }
  template <int Groups>
  void multiply(float (&c)[Groups][4], const unsigned (&a)[4], uint64_t b) {
    of_.product(thread_, Groups * 8, &c[0][0], a, 0, b, true);
  }
  // The compiler's business.
  template <class Registers>
  void hold(Registers&) {}
  void finish(const float (&)[2]) {}

 private:
  HopperBlock& of_;
  const int thread_, threads_, block_, blocks_;
};

}  // namespace pendulum::kernels
