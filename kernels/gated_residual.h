// The residual step: out = x + (y + bias) * gate, where y is what a matrix product left.
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

// Rows come in groups that share one gate, as in norm_modulate.h.
struct GatedResidualSizes {
  int64_t groups = 1;
  int64_t rows = 1;    // per group
  int64_t dim = 1;     // elements of a row
  int64_t stride = 1;  // elements from one group's gate to the next one's
};

// For rows begin..end of groups * rows. A null gate is 1.
//   out, x, y (groups, rows, dim); bias (dim); gate (groups, dim) by stride
template <class T>
void gated_residual(T* out, const T* x, const T* y, const T* bias, const T* gate,
                    const GatedResidualSizes& sizes, int64_t begin, int64_t end);

// For pieces begin..end of groups * pieces_of(rows); see column_sum.h. The gradient of x is dout
// itself. With a null gate that of y is dout too: dy and dgate are then not touched and may be
// null.
//   dy (groups, rows, dim); dgate, dbias (groups, pieces, dim), partial sums
template <class T>
void gated_residual_backward(T* dy, T* dgate, T* dbias, const T* dout, const T* y, const T* bias,
                             const T* gate, const GatedResidualSizes& sizes, int64_t begin,
                             int64_t end);

// On a GPU: x, y, out, dy, dout are float or bf16; gate, bias and the partial sums are fp32. dim
// and stride are multiples of 4.
template <class T>
void gated_residual_cuda(T* out, const T* x, const T* y, const float* bias, const float* gate,
                         const GatedResidualSizes& sizes, Stream stream);
template <class T>
void gated_residual_backward_cuda(T* dy, float* dgate, float* dbias, const T* dout, const T* y,
                                  const float* bias, const float* gate,
                                  const GatedResidualSizes& sizes, Stream stream);

}  // namespace pendulum::kernels
