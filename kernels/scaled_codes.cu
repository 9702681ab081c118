// Codes of 8 bits with scales on a GPU: a block per row and 1024 columns, four neighbours a thread,
// which always share a scale.
#include <cuda_fp8.h>

#include "kernels/launch.h"
#include "kernels/scaled_codes.h"

namespace pendulum::kernels {
namespace {

__device__ inline float value_of(int8_t code) { return code; }
__device__ inline float value_of(e4m3 code) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code.bits, __NV_E4M3)));
}

__device__ inline void store_one(float* p, float x) { *p = x; }
__device__ inline void store_one(bf16* p, float x) {
  const __nv_bfloat16 rounded = __float2bfloat16_rn(x);
  *p = *reinterpret_cast<const bf16*>(&rounded);
}

// kIsWhole: columns in multiples of 4, so that four codes are one access.
template <bool kIsWhole, class T, class Code>
__global__ void decode_kernel(T* x, const Code* codes, const float* scales, int64_t columns) {
  const int64_t column = 4 * (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x);
  if (column >= columns) return;
  const int64_t element = blockIdx.x * columns + column;
  const int64_t per_row = (columns + kScaleWidth - 1) / kScaleWidth;
  const float scale = scales[blockIdx.x * per_row + column / kScaleWidth];
  if constexpr (kIsWhole) {
    const unsigned word = *reinterpret_cast<const unsigned*>(codes + element);
    const Code* four = reinterpret_cast<const Code*>(&word);
    Four to;
    for (int i = 0; i < 4; ++i) to.v[i] = value_of(four[i]) * scale;
    store_four(x + element, to);
  } else {
    for (int i = 0; i < 4 && column + i < columns; ++i)
      store_one(x + element + i, value_of(codes[element + i]) * scale);
  }
}

}  // namespace

template <class T, class Code>
void decode_cuda(T* x, const Code* codes, const float* scales, int64_t rows, int64_t columns,
                 Stream stream) {
  if (rows * columns == 0) return;
  const unsigned threads = row_threads(columns);
  const int64_t fours = (columns + 3) / 4;
  const dim3 grid(blocks_for(rows), static_cast<unsigned>((fours + threads - 1) / threads));
  const auto kernel =
      columns % 4 == 0 ? decode_kernel<true, T, Code> : decode_kernel<false, T, Code>;
  launch("decode", kernel, grid, threads, stream, x, codes, scales, columns);
}

template void decode_cuda(float*, const int8_t*, const float*, int64_t, int64_t, Stream);
template void decode_cuda(float*, const e4m3*, const float*, int64_t, int64_t, Stream);
template void decode_cuda(bf16*, const int8_t*, const float*, int64_t, int64_t, Stream);
template void decode_cuda(bf16*, const e4m3*, const float*, int64_t, int64_t, Stream);

}  // namespace pendulum::kernels
