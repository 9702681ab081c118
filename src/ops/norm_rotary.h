// From a projection to queries, keys and values: RMS norm across heads, rotation by position, split
// into heads.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace pendulum {

// Cosine and sine of every token's rotation angles, (N, head_dim / 2) each, of the type the kernels
// compute in.
struct RotaryTables {
  at::Tensor cosine;
  at::Tensor sine;
};

// `packed` (B, N, P * H * d) holds P projections side by side. Each of the first weights.size()
// ones is normed over all heads together, multiplied by its weight (H * d) and, where tables are
// given, turned by position; the rest passes through as a view. Weights and tables are fp32 where
// packed is bf16, else of its type. Returns P tensors (B, N, H, d): {q, k, v} of self-attention,
// {q} or {k, v} of cross-attention.
std::vector<at::Tensor> norm_rotary(const at::Tensor& packed,
                                    const std::vector<at::Tensor>& weights,
                                    const RotaryTables* tables, int64_t heads, double eps);

// The same for self-attention whose heads `parts` ranks exchange: queries, keys and values written
// straight as the exchange sends them, (3, parts, B, N, H / parts, d), where part r is for rank r
// (attention/distributed_attention.h). `parts` divides H.
at::Tensor norm_rotary_dealt(const at::Tensor& packed, const std::vector<at::Tensor>& weights,
                             const RotaryTables& tables, int64_t heads, double eps, int64_t parts);

// Queries, keys and values (B, N, H, d) in that order, by copies.
at::Tensor deal_heads(const std::vector<at::Tensor>& qkv, int64_t parts);

}  // namespace pendulum
