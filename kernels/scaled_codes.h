// Numbers as codes of 8 bits: kScaleWidth neighbours of a row share a scale, and a number is its
// code times that.
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

inline constexpr int64_t kScaleWidth = 64;
inline int64_t scales_of(int64_t columns) { return (columns + kScaleWidth - 1) / kScaleWidth; }

// Float8 E4M3 without infinities (OCP 8-bit floating point specification 1.0): same bits as
// at::Float8_e4m3fn.
struct e4m3 {
  uint8_t bits;
};

// For rows begin..end, with Code int8_t (-127..127) or e4m3 (at most 448): the scale is the largest
// absolute value of its numbers over that of the codes, at least the smallest normal float; a code
// is the one nearest to x / scale, of two the even one. x must be finite.
//   codes, x (rows, columns); scales (rows, scales_of(columns))
template <class Code>
void encode(Code* codes, float* scales, const float* x, int64_t columns, int64_t begin,
            int64_t end);

// x = code * scale, rounded once, for rows begin..end.
template <class Code>
void decode(float* x, const Code* codes, const float* scales, int64_t columns, int64_t begin,
            int64_t end);

// The same on a GPU for all rows; T bf16 rounds the fp32 product once more. Weights are encoded on
// the host, where they are read, so that encode has no CUDA version.
template <class T, class Code>
void decode_cuda(T* x, const Code* codes, const float* scales, int64_t rows, int64_t columns,
                 Stream stream);

}  // namespace pendulum::kernels
