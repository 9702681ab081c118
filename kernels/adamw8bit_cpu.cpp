// AdamW with moments in 8 bits on the CPU.
#include "kernels/adamw8bit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/adamw_update.h"

namespace pendulum::kernels {
namespace {

// A register of AVX2; other targets compile to what they have.
constexpr int64_t kLanes = 8;
using Lanes __attribute__((vector_size(4 * kLanes))) = float;
using Bits __attribute__((vector_size(4 * kLanes))) = int32_t;

inline Lanes lanes_at(const float* x) {
  Lanes lanes;
  std::memcpy(&lanes, x, sizeof lanes);
  return lanes;
}
inline void put(float* to, const Lanes& lanes) { std::memcpy(to, &lanes, sizeof lanes); }

// table[index] in every lane, index in 0..kLanes - 1: one instruction, where compilers make eight
// of a plain loop.
inline Lanes looked_up(const Lanes& table, const Bits& index) {
#if __has_builtin(__builtin_shuffle)
  return __builtin_shuffle(table, index);
#else
  Lanes out;
  for (int64_t i = 0; i < kLanes; ++i) out[i] = table[index[i]];
  return out;
#endif
}

// The bits of a number's magnitude: those of floats above 0 rise with them.
inline int32_t size_bits(float x) { return std::bit_cast<int32_t>(x) & 0x7FFFFFFF; }

// A block's numbers as shares of its scale, and what nearest_code() finds for each by a comparison
// for every decade. What is below the first decade counts to it.
struct Shares {
  float size[kQuantBlock], per_one[kQuantBlock], parts[kQuantBlock];

  // The magnitudes of finite parts; returns the largest.
  float take(const float* x, int64_t count) {
    int32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; ++i) {
      size[i] = std::bit_cast<float>(size_bits(x[i]));
      largest = std::max(largest, size_bits(x[i]));
    }
    if (largest <= std::bit_cast<int32_t>(kMostFloat)) return std::bit_cast<float>(largest);
    float most = 0;
    for (int64_t i = 0; i < count; ++i) {
      size[i] = std::abs(finite_part(x[i]));
      most = std::max(most, size[i]);
    }
    return most;
  }

  void find(float divisor, int64_t count, const DynamicMap& map) {
    static_assert(kDecades == kLanes && kQuantBlock % kLanes == 0);
    constexpr int32_t kFirst = 0x34C0, kPerStep = 65536 / 416;  // 416 = 3.25 * 128
    const Lanes ends = lanes_at(map.above + 1);
    const Lanes all_per_one = lanes_at(map.per_one);
    const auto first_parts = std::bit_cast<int32_t>(map.parts[0]);
    std::fill(size + count, size + (count + kLanes - 1) / kLanes * kLanes, 0.0F);
    for (int64_t i = 0; i < count; i += kLanes) {
      const Lanes share = lanes_at(size + i) / divisor;
      // A decade is log2(10) = 3.32 powers of two, each 128 steps of the bits' upper half. What
      // rises by one in 3.25 powers, always behind a decade's beginning and before its end, is the
      // decade's number or one too few.
      const Bits steps = (std::bit_cast<Bits>(share) >> 16) - kFirst;
      const Bits rough = (steps > 0 ? steps : 0) * kPerStep >> 16;
      const Bits decade = rough - (share > looked_up(ends, rough));  // true is -1
      put(size + i, share);
      put(per_one + i, looked_up(all_per_one, decade));
      put(parts + i, std::bit_cast<Lanes>(first_parts + (decade << 23)));  // twice each decade's
    }
  }
};

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
  Shares shares;
  const float scale = scale_of(shares.take(x, count));
  shares.find(divisor_of(scale), count, map);
  // The rest of nearest_code().
  const float above = map.above[0];
  const int32_t zero = map.zero, spare = map.spare;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float parts = shares.parts[i];
    const float part = std::fma(shares.size[i], shares.per_one[i], -(parts * (1.0F / 9)));
    const auto inside = static_cast<int32_t>(std::min(part, parts - 1));
    const int32_t reached = static_cast<int32_t>(parts) - spare + std::max(inside, 0);
    const int32_t steps = reached & -int32_t{shares.size[i] > above};
    const int32_t sign = std::bit_cast<int32_t>(x[i]) >> 31;  // -1 below zero
    codes[i] = static_cast<uint8_t>(std::max(zero + ((steps ^ sign) - sign), 0));
  }
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
