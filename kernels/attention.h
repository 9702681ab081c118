// Attention: softmax(q k^T scale) v. On the CPU for few keys, where one head's scores fit into the
// cache; on a GPU over one block of keys added to others. For the rest there are library kernels:
// PyTorch's, and cuDNN's (cudnn_attention.h).
#pragma once
#include <cstdint>
#include <optional>

#include "kernels/types.h"

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

// What ring attention does at every step: the attention over these keys is added to what earlier
// blocks of keys gave, in place. `merged` is the output and log_sum_exp its statistic as
// attention() gives them, for all keys so far; a log-sum-exp of -infinity stands for none, and
// merged is then not read. No part is rounded on the way.
template <class T>
void accumulate_attention(TokensView<T> merged, T* log_sum_exp, TokensView<const T> query,
                          TokensView<const T> key, TokensView<const T> value, T* scratch,
                          const AttentionSizes& sizes, int64_t begin, int64_t end);

// The same on a GPU from Ampere on, for all heads: products in bf16, sums and `merged` in fp32.
// Heads of 64 or 128 elements; rows begin at multiples of 16 bytes.
bool accumulate_attention_takes(int64_t head_dim);

// Two kernels compute it, to the same bounds: one for all these GPUs (attention.cu), and a faster
// one for Hoppers alone (attention_hopper.cu). That which the current device and these operands
// get:
enum class AccumulateKernel { kAmpere, kHopper };
AccumulateKernel accumulate_attention_kernel(TokensView<const bf16> query,
                                             TokensView<const bf16> key,
                                             TokensView<const bf16> value,
                                             const AttentionSizes& sizes);

// With `kernel` given: by that one, which tests and the bench ask for; kHopper only where
// accumulate_attention_kernel() says so.
void accumulate_attention_cuda(TokensView<float> merged, float* log_sum_exp,
                               TokensView<const bf16> query, TokensView<const bf16> key,
                               TokensView<const bf16> value, const AttentionSizes& sizes,
                               Stream stream, std::optional<AccumulateKernel> kernel = {});

}  // namespace pendulum::kernels
