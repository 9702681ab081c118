// The activation of the feed-forward layer: out = gelu(x + bias), gelu(h) = h / 2 * (1 +
// tanh(sqrt(2/pi) (h + 0.044715 h^3))).
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

// For rows begin..end.  out, x (rows, dim); bias (dim)
// tanh comes from an own exponential in fp32: the result is within 4 eps of |h| of the exact one.
template <class T>
void bias_gelu(T* out, const T* x, const T* bias, int64_t dim, int64_t begin, int64_t end);

// For pieces begin..end of pieces_of(rows); see column_sum.h.  dx (rows, dim), may be dout; dbias
// (pieces, dim), partial sums
template <class T>
void bias_gelu_backward(T* dx, T* dbias, const T* dout, const T* x, const T* bias, int64_t rows,
                        int64_t dim, int64_t begin, int64_t end);

// On a GPU: x, out, dx, dout are float or bf16; bias and its partial sums are fp32. dim is a
// multiple of 4.
template <class T>
void bias_gelu_cuda(T* out, const T* x, const float* bias, int64_t rows, int64_t dim,
                    Stream stream);
template <class T>
void bias_gelu_backward_cuda(T* dx, float* dbias, const T* dout, const T* x, const float* bias,
                             int64_t rows, int64_t dim, Stream stream);

}  // namespace pendulum::kernels
