// What stands at the border of every CUDA launcher: a stream and a 16-bit float, without CUDA's
// headers.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace pendulum::kernels {

using Stream = CUstream_st*;  // cudaStream_t

// Same bits as __nv_bfloat16 and at::BFloat16; only device code computes with it.
struct bf16 {
  uint16_t bits;
};

}  // namespace pendulum::kernels
