// What happens to queries and keys before attention: RMS norm across all heads with a weight, then
// rotation of pairs.
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pendulum::kernels {

struct QkNormRotarySizes {
  int64_t rows = 1;    // batch * tokens
  int64_t tokens = 1;  // rows of the tables; row r has position r % tokens
  int64_t heads = 1;
  int64_t head_dim = 2;  // even
  int64_t stride = 2;  // elements from one row of x (and dx) to the next: x may be a slice of q, k
                       // and v side by side
  double eps = 1e-6;   // added to the mean square
  // out and dout are cut by heads into parts, which the ranks that exchange heads get: part p,
  // (rows, heads / parts * head_dim), begins at p * part_stride.
  int64_t parts = 1;
  int64_t part_stride = 0;

  int64_t part_dim() const { return heads / parts * head_dim; }
};

// For rows begin..end: y = x * rstd * weight, then elements (2i, 2i + 1) of each head are turned by
// the angle whose cosine and sine the tables hold. Null tables: no rotation (cross-attention). A
// null weight: neither norm nor rotation, only the cut into parts (values); rstd is not touched.
//   out (parts, rows, heads / parts * head_dim); rstd (rows); x (rows, heads * head_dim) by stride;
//   weight (heads * head_dim); cosine, sine (tokens, head_dim / 2)
template <class T>
void qk_norm_rotary(T* out, T* rstd, const T* x, const T* weight, const T* cosine, const T* sine,
                    const QkNormRotarySizes& sizes, int64_t begin, int64_t end);

// For pieces begin..end of pieces_of(rows); see column_sum.h.
//   dx like x, by stride; dweight (pieces, heads * head_dim), partial sums, not touched where the
//   weight is null; dout like out
template <class T>
void qk_norm_rotary_backward(T* dx, T* dweight, const T* dout, const T* x, const T* rstd,
                             const T* weight, const T* cosine, const T* sine,
                             const QkNormRotarySizes& sizes, int64_t begin, int64_t end);

// On a GPU: x, out, dx, dout are float or bf16; the rest is fp32. Rows of a part, stride and
// part_stride are multiples of 4.
template <class T>
void qk_norm_rotary_cuda(T* out, float* rstd, const T* x, const float* weight, const float* cosine,
                         const float* sine, const QkNormRotarySizes& sizes, Stream stream);
template <class T>
void qk_norm_rotary_backward_cuda(T* dx, float* dweight, const T* dout, const T* x,
                                  const float* rstd, const float* weight, const float* cosine,
                                  const float* sine, const QkNormRotarySizes& sizes, Stream stream);

}  // namespace pendulum::kernels
