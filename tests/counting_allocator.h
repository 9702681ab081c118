// Counts the bytes that tensors hold in CPU memory.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstdlib>

namespace pendulum {

class CountingAllocator : public at::Allocator {
 public:
  at::DataPtr allocate(size_t bytes) override {
    auto* block = static_cast<size_t*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
    *block = bytes;
    const int64_t now = held += static_cast<int64_t>(bytes);
    for (int64_t most = peak; now > most && !peak.compare_exchange_weak(most, now);) {
    }
    return {block + 8, block, &release, at::kCPU};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  static void release(void* block) {
    held -= static_cast<int64_t>(*static_cast<size_t*>(block));
    std::free(block);
  }
  static inline std::atomic<int64_t> held{0};
  static inline std::atomic<int64_t> peak{0};  // the most held since it was last set
};

// While it lives, new tensors are counted; those must be gone before it is.
class Counting {
 public:
  Counting() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(&counting(), 1); }
  ~Counting() { c10::SetCPUAllocator(before_, 1); }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

 private:
  static CountingAllocator& counting() {
    static CountingAllocator allocator;
    return allocator;
  }
  at::Allocator* before_;
};

}  // namespace pendulum
