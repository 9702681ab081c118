// Layer norm without own weights, then out = norm(x) * (offset + scale) + shift: adaptive norms
// (offset 1) and affine norms (offset 0, one group).
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

// Rows of x come in groups that share one scale and shift: a group is a sample, or a token, or
// everything.
struct NormModulateSizes {
  int64_t groups = 1;
  int64_t rows = 1;    // per group
  int64_t dim = 1;     // elements of a row
  int64_t stride = 1;  // elements from one group's scale (and shift) to the next one's
  double eps = 1e-6;   // added to the variance
  double offset = 1;
};

// For rows begin..end of groups * rows. mean and 1/std per row are kept for the backward pass.
//   out, x (groups, rows, dim); mean, rstd (groups, rows); scale, shift (groups, dim) by stride
template <class T>
void norm_modulate(T* out, T* mean, T* rstd, const T* x, const T* scale, const T* shift,
                   const NormModulateSizes& sizes, int64_t begin, int64_t end);

// For pieces begin..end of groups * pieces_of(rows); see column_sum.h.
//   dx (groups, rows, dim); dscale, dshift (groups, pieces, dim), partial sums
template <class T>
void norm_modulate_backward(T* dx, T* dscale, T* dshift, const T* dout, const T* x, const T* mean,
                            const T* rstd, const T* scale, const NormModulateSizes& sizes,
                            int64_t begin, int64_t end);

// On a GPU: x, out, dx, dout are float or bf16; the rest is fp32. dim and stride are multiples
// of 4.
template <class T>
void norm_modulate_cuda(T* out, float* mean, float* rstd, const T* x, const float* scale,
                        const float* shift, const NormModulateSizes& sizes, Stream stream);
template <class T>
void norm_modulate_backward_cuda(T* dx, float* dscale, float* dshift, const T* dout, const T* x,
                                 const float* mean, const float* rstd, const float* scale,
                                 const NormModulateSizes& sizes, Stream stream);

}  // namespace pendulum::kernels
