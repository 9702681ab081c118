// AdamW with both moments in 8 bits and a scale for every 256 numbers of a tensor.
#pragma once
#include <cstdint>

#include "kernels/adamw.h"
#include "kernels/chunks.h"
#include "kernels/dynamic_map.h"
#include "kernels/types.h"

namespace pendulum::kernels {

static_assert(kChunk % kQuantBlock == 0, "no block lies in two chunks");

// One parameter tensor and all that belongs to it: `count` elements each, the scales one for each
// kQuantBlock of them in the order of memory; the last block may be shorter.
struct AdamW8bitTensor {
  float* parameter = nullptr;
  const float* gradient = nullptr;
  uint8_t* first = nullptr;   // bytes of kFirstMap
  uint8_t* second = nullptr;  // bytes of kSecondMap
  float* first_scale = nullptr;
  float* second_scale = nullptr;
  float* average = nullptr;  // moving average of the parameter; null: none is kept
  int64_t count = 0;
  double decay = 0;  // weight decay of this tensor
};

// Writes the byte of each x (count, at most kQuantBlock) and returns their scale, which is finite:
// NaN counts as zero and infinity as the largest number. What becomes of x is scale times the
// map's number.
float quantise(uint8_t* codes, const float* x, int64_t count, const DynamicMap& map);

// x[i] = scale times the number of codes[i].
void dequantise(float* x, const uint8_t* codes, float scale, int64_t count, const DynamicMap& map);

// For elements begin..end of one tensor, `begin` a multiple of kQuantBlock, and `end` another or
// the count: moments are read, updated in fp32 with the parameter as by adamw(), and written with
// their block's new scale. A gradient that is not finite shows in the parameter and nowhere else.
void adamw8bit(const AdamW8bitTensor& tensor, const AdamWStep& step, double scale, int64_t begin,
               int64_t end);

// For chunks begin..end of a list of tensors: each exactly as by itself.
void adamw8bit(const AdamW8bitTensor* tensors, const Chunk* chunks, const AdamWStep& step,
               double scale, int64_t begin, int64_t end);

// The same on a GPU in one launch, a block a chunk, a warp 256 numbers at a time. The tables lie in
// the device's memory.
void adamw8bit_cuda(const AdamW8bitTensor* tensors, const Chunk* chunks, int64_t num_chunks,
                    const AdamWStep& step, double scale, Stream stream);

}  // namespace pendulum::kernels
