// AdamW with moments in 8 bits on the CPU.
#include "kernels/adamw8bit.h"

#include <algorithm>
#include <cmath>

#include "kernels/adamw_update.h"

namespace pendulum::kernels {
namespace {

// Elements begin..begin + count of a tensor, which share their scales.
void update_block(const AdamW8bitTensor& tensor, const AdamWFactors<float>& f, float keep,
                  int64_t begin, int64_t count) {
  float m[kQuantBlock];
  float v[kQuantBlock];
  float& first_scale = tensor.first_scale[begin / kQuantBlock];
  float& second_scale = tensor.second_scale[begin / kQuantBlock];
  dequantise(m, tensor.first + begin, first_scale, count, kFirstMap);
  dequantise(v, tensor.second + begin, second_scale, count, kSecondMap);
  float* __restrict p = tensor.parameter + begin;
  const float* __restrict g = tensor.gradient + begin;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) update(p[i], g[i], m[i], v[i], keep, f);
  if (tensor.average != nullptr) {
    float* __restrict a = tensor.average + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) a[i] += f.pull * (p[i] - a[i]);
  }
  first_scale = quantise(tensor.first + begin, m, count, kFirstMap);
  second_scale = quantise(tensor.second + begin, v, count, kSecondMap);
}

}  // namespace

float quantise(uint8_t* codes, const float* x, int64_t count, const DynamicMap& map) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(finite_part(x[i])));
  const float scale = scale_of(largest);
  const float divisor = divisor_of(scale);
#pragma omp simd
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(nearest_code(map, finite_part(x[i]) / divisor));
  return scale;
}

void dequantise(float* x, const uint8_t* codes, float scale, int64_t count, const DynamicMap& map) {
  const float* values = map.values;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) x[i] = values[codes[i]] * scale;
}

void adamw8bit(const AdamW8bitTensor& tensor, const AdamWStep& step, double scale, int64_t begin,
               int64_t end) {
  const AdamWFactors<float> f = factors_of<float>(step, scale);
  const float keep = share_kept(tensor.decay, f);
  for (int64_t i = begin; i < end; i += kQuantBlock)
    update_block(tensor, f, keep, i, std::min(kQuantBlock, end - i));
}

void adamw8bit(const AdamW8bitTensor* tensors, const Chunk* chunks, const AdamWStep& step,
               double scale, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    adamw8bit(tensors[chunks[i].tensor], step, scale, chunks[i].begin, chunks[i].end);
}

}  // namespace pendulum::kernels
