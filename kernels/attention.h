// Attention over few keys on the CPU: softmax(q k^T scale) v where one head's scores fit into the
// cache. There is no CUDA version: GPUs have library kernels for it, and so have CPUs for many
// keys.
#pragma once
#include <cstdint>

namespace pendulum::kernels {

// A (batch, tokens, heads, head_dim) tensor whose heads lie side by side: element (b, n, h, j) is
// at b * batch_stride + n * token_stride + h * head_dim + j.
template <class T>
struct TokensView {
  T* data = nullptr;
  int64_t batch_stride = 0;
  int64_t token_stride = 0;
};

struct AttentionSizes {
  int64_t batch = 1;
  int64_t queries = 1;
  int64_t keys = 1;
  int64_t heads = 1;
  int64_t head_dim = 1;
  double scale = 1;  // 1 / sqrt(head_dim)
};

// For heads begin..end of batch * heads. log_sum_exp (batch, heads, queries). Needs scratch of
// attention_scratch() elements, as does the backward pass; each thread its own.
template <class T>
void attention(TokensView<T> out, T* log_sum_exp, TokensView<const T> query,
               TokensView<const T> key, TokensView<const T> value, T* scratch,
               const AttentionSizes& sizes, int64_t begin, int64_t end);

// `out` and log_sum_exp may be those of an attention over more keys than these; see
// ops/attention.h.
template <class T>
void attention_backward(TokensView<T> dquery, TokensView<T> dkey, TokensView<T> dvalue,
                        TokensView<const T> dout, TokensView<const T> query,
                        TokensView<const T> key, TokensView<const T> value, TokensView<const T> out,
                        const T* log_sum_exp, T* scratch, const AttentionSizes& sizes,
                        int64_t begin, int64_t end);

int64_t attention_scratch(const AttentionSizes& sizes);

}  // namespace pendulum::kernels
