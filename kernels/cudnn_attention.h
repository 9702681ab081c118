// Attention by cuDNN on a GPU: a plan for every shape, built once and kept. Only in builds with
// cuDNN and cudnn-frontend.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/attention.h"

namespace pendulum::kernels {

// Tokens come in multiples of this. cuDNN 9.19's backward pass on Hopper gives NaN for other
// numbers of keys where a log-sum-exp lies below -88, and silently wrong numbers for rows that do
// not begin at multiples of 16 bytes: neither is handed to it.
inline constexpr int64_t kCudnnTokens = 128;
inline int64_t cudnn_tokens(int64_t tokens) {
  return (tokens + kCudnnTokens - 1) / kCudnnTokens * kCudnnTokens;
}

// The operands of a forward pass. Queries and keys are padded to cudnn_tokens() with finite
// numbers; AttentionSizes hold the padded counts. Lengths, one a sample in the device's memory, say
// how many are real; both null: all are.
struct CudnnForward {
  TokensView<bf16> out;
  float* log_sum_exp = nullptr;  // (batch, heads, queries)
  TokensView<const bf16> query, key, value;
  const int32_t* query_lengths = nullptr;
  const int32_t* key_lengths = nullptr;
};

// Of a backward pass; `out` and log_sum_exp may be those of an attention over more keys than these.
struct CudnnBackward {
  TokensView<bf16> dquery, dkey, dvalue;
  TokensView<const bf16> dout, query, key, value, out;
  const float* log_sum_exp = nullptr;
  const int32_t* query_lengths = nullptr;
  const int32_t* key_lengths = nullptr;
};

// Whether cuDNN has a plan, and the memory that it works in.
struct CudnnPlan {
  std::string refusal;    // empty: there is a plan
  int64_t workspace = 0;  // bytes
};

// The plans of one device, which is the current one whenever this is used. Threads take turns.
class CudnnAttention {
 public:
  // std::runtime_error where cuDNN does not start.
  CudnnAttention();
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  // Builds the plan of such operands (a second or so), or finds it. Addresses count for their
  // alignment alone.
  CudnnPlan plan(const CudnnForward& operands, const AttentionSizes& sizes);
  CudnnPlan plan(const CudnnBackward& operands, const AttentionSizes& sizes);
  // Queues the pass for which plan() gave no refusal. The backward pass adds in no fixed order.
  void run(const CudnnForward& operands, const AttentionSizes& sizes, void* workspace,
           Stream stream);
  void run(const CudnnBackward& operands, const AttentionSizes& sizes, void* workspace,
           Stream stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pendulum::kernels
