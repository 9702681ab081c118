// A block of GPU threads by threads of the host: what kernels/attention_block.h asks of a warp, as
// the PTX manual (sections on ldmatrix, mma.m16n8k16 and cp.async) says where each lane's numbers
// are.
#pragma once
#include <array>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/types.h"

namespace pendulum::kernels {

inline float widen(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
inline uint16_t narrow(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// What the threads of a block share.
template <int Warps>
struct EmulatedBlock {
  explicit EmulatedBlock(size_t bytes) : memory(bytes, 0xFF), together(Warps * 32) {  // NaN
    for (int i = 0; i < Warps; ++i) by_warp.push_back(std::make_unique<std::barrier<>>(32));
  }
  std::vector<unsigned char> memory;
  std::barrier<> together;
  std::vector<std::unique_ptr<std::barrier<>>> by_warp;
  std::array<std::array<std::array<uint32_t, 8>, 32>, Warps> lanes;  // what lanes show each other
};

template <int Warps>
class EmulatedWarp {
 public:
  static constexpr int kWarps = Warps;

  EmulatedWarp(EmulatedBlock<Warps>& block, int thread) : block_(block), thread_(thread) {}

  int thread() const { return thread_; }
  unsigned shared() const { return 0; }
  void sync_block() { block_.together.arrive_and_wait(); }

  float from_lane_xor(float x, int lanes) {
    show({std::bit_cast<uint32_t>(x)});
    const float other = std::bit_cast<float>(lane(thread_ % 32 ^ lanes)[0]);
    sync_warp();
    return other;
  }

  // Copies arrive when they are waited for and not before: who reads too early reads NaN, or the
  // former tile.
  void copy_chunk(unsigned to, const bf16* from, bool real) { open_.push_back({to, from, real}); }
  void end_of_copies() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  template <int Open>
  void await_copies() {
    while (groups_.size() > Open) {
      for (const Copy& copy : groups_.front()) {
        if (copy.real) {
          std::memcpy(&block_.memory.at(copy.to), copy.from, 16);
        } else {
          std::memset(&block_.memory.at(copy.to), 0, 16);
        }
      }
      groups_.erase(groups_.begin());
    }
  }

  void load_matrices(unsigned (&r)[4], unsigned address) {
    show({address});
    for (int matrix = 0; matrix < 4; ++matrix) {
      const int row = lane_number() / 4, column = lane_number() % 4 * 2;
      r[matrix] = both(element(matrix, row, column), element(matrix, row, column + 1));
    }
    sync_warp();
  }
  void load_transposed(unsigned (&r)[4], unsigned address) {
    show({address});
    for (int matrix = 0; matrix < 4; ++matrix) {
      const int row = lane_number() / 4, column = lane_number() % 4 * 2;
      r[matrix] = both(element(matrix, column, row), element(matrix, column + 1, row));
    }
    sync_warp();
  }

  void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    show({a[0], a[1], a[2], a[3], b0, b1});
    for (int i = 0; i < 4; ++i) {
      const int row = lane_number() / 4 + i / 2 * 8;
      const int column = lane_number() % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k) c[i] += left(row, k) * right(k, column);
    }
    sync_warp();
  }

  static unsigned pair_of(float low, float high) { return both(narrow(low), narrow(high)); }
  static float power_of_two(float x) { return std::exp2(x); }

 private:
  struct Copy {
    unsigned to;
    const bf16* from;
    bool real;
  };

  int lane_number() const { return thread_ % 32; }
  void sync_warp() { block_.by_warp[static_cast<size_t>(thread_ / 32)]->arrive_and_wait(); }
  std::array<uint32_t, 8>& lane(int number) { return block_.lanes[thread_ / 32][number]; }
  void show(const std::array<uint32_t, 8>& words) {
    lane(lane_number()) = words;
    sync_warp();
  }
  static unsigned both(uint16_t low, uint16_t high) {
    return low | static_cast<unsigned>(high) << 16;
  }
  // Of an 8 x 8 matrix whose row r begins at the address that lane 8 matrix + r shows.
  uint16_t element(int matrix, int row, int column) {
    uint16_t bits = 0;
    std::memcpy(&bits, &block_.memory.at(lane(8 * matrix + row)[0] + 2 * column), 2);
    return bits;
  }
  static float half(unsigned word, int index) {
    return widen(static_cast<uint16_t>(index == 0 ? word : word >> 16));
  }
  // a: register 0 holds rows 0-7 of columns 0-7, 1 rows 8-15 of them, 2 and 3 those of columns
  // 8-15.
  float left(int row, int k) {
    return half(lane(row % 8 * 4 + k % 8 / 2)[row / 8 + k / 8 * 2], k % 2);
  }
  // b: register 0 holds rows 0-7 (k), 1 rows 8-15; a lane's column is its number by 4.
  float right(int k, int column) { return half(lane(column * 4 + k % 8 / 2)[4 + k / 8], k % 2); }

  EmulatedBlock<Warps>& block_;
  const int thread_;
  std::vector<Copy> open_;
  std::vector<std::vector<Copy>> groups_;
};

// Runs body(warp) on every thread of a block with `bytes` of shared memory.
template <int Warps>
void run_block(size_t bytes, const std::function<void(EmulatedWarp<Warps>&)>& body) {
  EmulatedBlock<Warps> block(bytes);
  std::vector<std::thread> threads;
  for (int i = 0; i < Warps * 32; ++i) {
    threads.emplace_back([&, i] {
      EmulatedWarp<Warps> warp(block, i);
      body(warp);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace pendulum::kernels
