// A list of tensors cut into chunks, so that one launch covers them all.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace pendulum::kernels {

// Elements begin..end of tensor number `tensor`: what one block of a GPU, or one thread of a CPU,
// works on at a time.
struct Chunk {
  int64_t tensor = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// A multiple of what a vector load takes, so that every chunk is aligned as its tensor is.
inline constexpr int64_t kChunk = 16384;

// Chunks of at most kChunk elements, in the tensors' order; none spans two tensors, and borders
// depend on the counts alone.
inline std::vector<Chunk> chunks_of(const std::vector<int64_t>& counts) {
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < counts.size(); ++i) {
    for (int64_t begin = 0; begin < counts[i]; begin += kChunk)
      chunks.push_back({static_cast<int64_t>(i), begin, std::min(counts[i], begin + kChunk)});
  }
  return chunks;
}

}  // namespace pendulum::kernels
