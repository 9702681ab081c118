// Threads as coroutines, barriers, and memory with a border behind it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#include "cuda_runtime.h"
#include "kernels/tests/coroutine.h"

namespace cuda_emulation {
namespace {

constexpr unsigned kWarp = 32;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "the emulated GPU: %s\n", what);
  std::abort();
}

struct Barrier {
  unsigned waiting = 0;
  uint64_t passed = 0;  // how many times all have come
};

using pendulum::kernels::Coroutine;

// The block that runs.
struct Block {
  std::vector<std::unique_ptr<Coroutine>> threads;  // as many as the largest block so far
  unsigned size = 0;
  Barrier whole;
  std::vector<Barrier> warps;
  std::vector<std::byte> shown;
  const std::function<void()>* body = nullptr;
  bool has_moved = false;  // since the last turns of a warp
};
Block& block() {
  static Block the_block;
  return the_block;
}

Coroutine& current() { return *block().threads[threadIdx.x]; }

void wait_for_all(Barrier& barrier, unsigned count) {
  const uint64_t before = barrier.passed;
  block().has_moved = true;
  if (++barrier.waiting == count) {
    barrier.waiting = 0;
    ++barrier.passed;
  }
  while (barrier.passed == before) current().leave();
}

void begin_block(dim3 index) {
  Block& b = block();
  blockIdx = index;
  b.whole = {};
  b.warps.assign(b.size / kWarp, {});
  b.shown.assign(static_cast<size_t>(b.size) * 16, std::byte{0xFF});
  for (unsigned i = 0; i < b.size; ++i) {
    b.threads[i]->start([] {
      (*block().body)();
      block().has_moved = true;
    });
  }
}

// A turn for each thread of a warp that has not ended; whether any has come further.
bool turns_of_warp(unsigned warp, bool is_falling) {
  block().has_moved = false;
  for (unsigned i = 0; i < kWarp; ++i) {
    threadIdx.x = warp * kWarp + (is_falling ? kWarp - 1 - i : i);
    if (!current().has_ended()) current().enter();
  }
  return block().has_moved;
}

// Each warp as far as it comes without the others, so that what is missing between warps shows.
// Whether any has come further.
bool turns_of_block(bool is_falling) {
  const unsigned warps = block().size / kWarp;
  bool has_moved = false;
  for (unsigned i = 0; i < warps; ++i) {
    while (turns_of_warp(is_falling ? warps - 1 - i : i, is_falling)) has_moved = true;
  }
  return has_moved;
}

bool have_all_ended() {
  const Block& b = block();
  return std::all_of(b.threads.begin(), b.threads.begin() + b.size,
                     [](const auto& thread) { return thread->has_ended(); });
}

// Behind each piece of memory, which begins as a GPU's does.
constexpr size_t kAlignment = 256, kBorder = 64;
std::map<void*, size_t>& sizes() {
  static std::map<void*, size_t> of_all;
  return of_all;
}

}  // namespace

bool run(dim3 grid, dim3 threads, const std::function<void()>& body) {
  const bool is_valid = grid.x > 0 && grid.x < 1U << 31 && grid.y > 0 && grid.y < 1U << 16 &&
                        grid.z == 1 && threads.x > 0 && threads.x <= 1024 && threads.y == 1;
  if (!is_valid) return false;
  if (threads.x % kWarp != 0) fail("a block of whole warps is expected");
  Block& b = block();
  b.size = threads.x;
  b.body = &body;
  blockDim = threads;
  while (b.threads.size() < b.size) b.threads.push_back(std::make_unique<Coroutine>());
  bool is_falling = false;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x, is_falling = !is_falling) {
      begin_block({x, y, 0});
      while (turns_of_block(is_falling)) {
      }
      if (!have_all_ended()) fail("threads wait at a barrier that others never reach");
    }
  }
  return true;
}

void sync_block() { wait_for_all(block().whole, block().size); }
void sync_warp() { wait_for_all(block().warps[threadIdx.x / kWarp], kWarp); }

std::byte* shown(unsigned lane) {
  const unsigned warp = threadIdx.x / kWarp;
  const size_t turn = block().warps[warp].passed % 2;
  return &block().shown[(warp * kWarp + lane) * size_t{16} + turn * 8];
}

void* allocate(size_t bytes) {
  const size_t whole = (bytes + kBorder + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<unsigned char*>(std::aligned_alloc(kAlignment, whole));
  if (memory == nullptr) fail("there is no memory");
  std::memset(memory + bytes, 0xA5, whole - bytes);
  sizes()[memory] = bytes;
  return memory;
}

void release(void* memory) {
  const auto found = sizes().find(memory);
  if (found == sizes().end()) fail("memory is given back that was not taken");
  const auto* border = static_cast<const unsigned char*>(memory) + found->second;
  for (size_t i = 0; i < kBorder; ++i) {
    if (border[i] != 0xA5) fail("something was written behind the end of a piece of memory");
  }
  sizes().erase(found);
  std::free(memory);
}

}  // namespace cuda_emulation
