// Legend: B batch, N queries, M keys, H heads, d elements of a head; n, m: N, M padded for cuDNN.
#include "ops/attention_cuda.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include "core/error.h"
#include "core/log.h"
#include "kernels/attention.h"
#include "kernels/cudnn_attention.h"
#include "ops/attention_views.h"
#include "ops/launch.h"

namespace pendulum {
namespace {

// Whether there is a kernel of tensor cores, cuDNN's or PyTorch's.
bool takes_tensor_cores(const at::Tensor& query) {
  return query.scalar_type() == at::kBFloat16 && query.size(3) % 8 == 0 && query.size(3) <= 256;
}

at::Tensor wide_heads_first(const at::Tensor& x) {
  return heads_first(x.to(at::promote_types(x.scalar_type(), at::kFloat)));
}

// Softmax written down, for everything else: what tests compare with, and small models.
AttentionOutput plain_forward(const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value) {
  const double scale = 1 / std::sqrt(static_cast<double>(query.size(3)));
  const at::Tensor scores =
      at::matmul(wide_heads_first(query), wide_heads_first(key).transpose(2, 3)) * scale;
  const at::Tensor log_sum_exp = at::logsumexp(scores, -1);
  const at::Tensor weights = at::exp(scores - log_sum_exp.unsqueeze(-1));
  const at::Tensor out = heads_first(at::matmul(weights, wide_heads_first(value)));
  return {out.to(query.scalar_type()).contiguous(), log_sum_exp};
}

AttentionGradients plain_backward(const at::Tensor& dout_in, const at::Tensor& query,
                                  const at::Tensor& key, const at::Tensor& value,
                                  const AttentionOutput& whole) {
  const double scale = 1 / std::sqrt(static_cast<double>(query.size(3)));
  const at::Tensor q = wide_heads_first(query), k = wide_heads_first(key),
                   v = wide_heads_first(value), dout = wide_heads_first(dout_in);
  const at::Tensor scores = at::matmul(q, k.transpose(2, 3)) * scale;
  const at::Tensor weights = at::exp(scores - whole.log_sum_exp.unsqueeze(-1));
  const at::Tensor dot = (dout * wide_heads_first(whole.out)).sum(-1, true);
  const at::Tensor dscores = weights * (at::matmul(dout, v.transpose(2, 3)) - dot) * scale;
  const auto tokens_first = [&](const at::Tensor& x) {
    return heads_first(x).to(query.scalar_type()).contiguous();
  };
  return {tokens_first(at::matmul(dscores, k)),
          tokens_first(at::matmul(dscores.transpose(2, 3), q)),
          tokens_first(at::matmul(weights.transpose(2, 3), dout))};
}

AttentionOutput flash_forward(const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value) {
  const auto result = at::_scaled_dot_product_flash_attention(heads_first(query), heads_first(key),
                                                              heads_first(value));
  return {heads_first(std::get<0>(result)), std::get<1>(result)};
}

AttentionGradients flash_backward(const at::Tensor& dout, const at::Tensor& query,
                                  const at::Tensor& key, const at::Tensor& value,
                                  const AttentionOutput& whole) {
  // Dense batches: no cumulative lengths; no dropout: the random state is never read.
  const at::Tensor none;
  const at::Tensor state = at::empty({2}, query.options().dtype(at::kUInt64));
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_backward(
      heads_first(dout), heads_first(query), heads_first(key), heads_first(value),
      heads_first(whole.out.to(query.scalar_type())), whole.log_sum_exp.contiguous(), none, none,
      query.size(1), key.size(1), 0.0, false, state, state);
  return {heads_first(dq), heads_first(dk), heads_first(dv)};
}

// cuDNN's plans for the device of x; null where cuDNN does not start. Plans take a second to build,
// so they live as long as the process, and are not taken down behind main(): CUDA may be gone then.
kernels::CudnnAttention* cudnn_for(const at::Tensor& x) {
  static std::mutex mutex;
  static auto& by_device = *new std::map<int, std::unique_ptr<kernels::CudnnAttention>>;
  const std::scoped_lock lock(mutex);
  const c10::cuda::CUDAGuard guard(x.device());
  const auto [entry, is_new] = by_device.try_emplace(x.device().index());
  if (is_new) {
    try {
      entry->second = std::make_unique<kernels::CudnnAttention>();
    } catch (const std::runtime_error& e) {
      warn("{}; PyTorch's flash attention is used", e.what());
    }
  }
  return entry->second.get();
}

void say_refusal(const std::string& refusal, const kernels::AttentionSizes& sizes) {
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  warn(
      "cuDNN has no attention for {} queries, {} keys and {} heads of {}: {}; PyTorch's flash "
      "attention is used there",
      sizes.queries, sizes.keys, sizes.heads, sizes.head_dim, refusal);
}

// Tokens in a multiple of what cuDNN takes, heads side by side, rows at multiples of 16 bytes;
// zeros behind the real tokens. The tensor itself where it is so already.
at::Tensor for_cudnn(const at::Tensor& x) {
  const int64_t tokens = kernels::cudnn_tokens(x.size(1));
  const bool is_dense = x.stride(3) == 1 && x.stride(2) == x.size(3);
  const bool is_aligned = reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 &&
                          x.stride(0) % 8 == 0 && x.stride(1) % 8 == 0;
  if (tokens == x.size(1) && is_dense && is_aligned) return x;
  const at::Tensor padded = at::empty({x.size(0), tokens, x.size(2), x.size(3)}, x.options());
  padded.narrow(1, 0, x.size(1)).copy_(x);
  padded.narrow(1, x.size(1), tokens - x.size(1)).zero_();
  return padded;
}

// How many tokens of each sample are real; undefined where all are.
struct Lengths {
  Lengths(const at::Tensor& query, const at::Tensor& key) {
    if (query.size(1) % kernels::kCudnnTokens == 0 && key.size(1) % kernels::kCudnnTokens == 0)
      return;
    const auto options = query.options().dtype(at::kInt);
    queries = at::full({query.size(0)}, query.size(1), options);
    keys = at::full({query.size(0)}, key.size(1), options);
  }
  at::Tensor queries, keys;  // (B)
};

at::Tensor workspace_of(const kernels::CudnnPlan& plan, const at::Tensor& x) {
  return at::empty({plan.workspace}, x.options().dtype(at::kByte));
}

// An undefined output where cuDNN has no plan.
AttentionOutput cudnn_forward(kernels::CudnnAttention& cudnn, const at::Tensor& query,
                              const at::Tensor& key, const at::Tensor& value) {
  const at::Tensor q = for_cudnn(query), k = for_cudnn(key), v = for_cudnn(value);
  const auto sizes = sizes_of(q, k);
  const Lengths lengths(query, key);
  const at::Tensor out = at::empty({q.size(0), q.size(1), q.size(2), q.size(3)}, q.options());
  const at::Tensor log_sum_exp =
      at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));
  const kernels::CudnnForward operands{
      view_of<kernels::bf16>(out),         pointer<float>(log_sum_exp),
      view_of<const kernels::bf16>(q),     view_of<const kernels::bf16>(k),
      view_of<const kernels::bf16>(v),     const_pointer<int32_t>(lengths.queries),
      const_pointer<int32_t>(lengths.keys)};
  const auto plan = cudnn.plan(operands, sizes);
  if (!plan.refusal.empty()) {
    say_refusal(plan.refusal, sizes_of(query, key));
    return {};
  }
  const at::Tensor workspace = workspace_of(plan, q);
  cudnn.run(operands, sizes, workspace.mutable_data_ptr(), current_stream(q));
  return {out.narrow(1, 0, query.size(1)), log_sum_exp.narrow(2, 0, query.size(1))};
}

AttentionGradients cudnn_backward(kernels::CudnnAttention& cudnn, const at::Tensor& dout,
                                  const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value, const AttentionOutput& whole) {
  const at::Tensor q = for_cudnn(query), k = for_cudnn(key), v = for_cudnn(value);
  const at::Tensor d = for_cudnn(dout), out = for_cudnn(whole.out.to(query.scalar_type()));
  const auto sizes = sizes_of(q, k);
  const Lengths lengths(query, key);
  at::Tensor log_sum_exp = whole.log_sum_exp.contiguous();
  if (q.size(1) != query.size(1))
    log_sum_exp = at::constant_pad_nd(log_sum_exp, {0, q.size(1) - query.size(1)});
  const at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()),
                   dv = at::empty(v.sizes(), v.options());
  const kernels::CudnnBackward operands{
      view_of<kernels::bf16>(dq),          view_of<kernels::bf16>(dk),
      view_of<kernels::bf16>(dv),          view_of<const kernels::bf16>(d),
      view_of<const kernels::bf16>(q),     view_of<const kernels::bf16>(k),
      view_of<const kernels::bf16>(v),     view_of<const kernels::bf16>(out),
      const_pointer<float>(log_sum_exp),   const_pointer<int32_t>(lengths.queries),
      const_pointer<int32_t>(lengths.keys)};
  const auto plan = cudnn.plan(operands, sizes);
  if (!plan.refusal.empty()) {
    say_refusal(plan.refusal, sizes_of(query, key));
    return {};
  }
  const at::Tensor workspace = workspace_of(plan, q);
  cudnn.run(operands, sizes, workspace.mutable_data_ptr(), current_stream(q));
  return {dq.narrow(1, 0, query.size(1)), dk.narrow(1, 0, key.size(1)),
          dv.narrow(1, 0, key.size(1))};
}

}  // namespace

AttentionOutput cuda_attention_forward(const at::Tensor& query, const at::Tensor& key,
                                       const at::Tensor& value) {
  const c10::cuda::CUDAGuard guard(query.device());
  if (!takes_tensor_cores(query)) return plain_forward(query, key, value);
  if (kernels::CudnnAttention* cudnn = cudnn_for(query)) {
    const AttentionOutput result = cudnn_forward(*cudnn, query, key, value);
    if (result.out.defined()) return result;
  }
  return flash_forward(query, key, value);
}

AttentionGradients cuda_attention_backward(const at::Tensor& dout, const at::Tensor& query,
                                           const at::Tensor& key, const at::Tensor& value,
                                           const AttentionOutput& whole) {
  const c10::cuda::CUDAGuard guard(query.device());
  if (!takes_tensor_cores(query)) return plain_backward(dout, query, key, value, whole);
  if (kernels::CudnnAttention* cudnn = cudnn_for(query)) {
    const AttentionGradients result = cudnn_backward(*cudnn, dout, query, key, value, whole);
    if (result.query.defined()) return result;
  }
  return flash_backward(dout, query, key, value, whole);
}

bool cuda_accumulate_attention(const AttentionOutput& merged, const at::Tensor& query,
                               const at::Tensor& key, const at::Tensor& value) {
  const bool is_taken = query.scalar_type() == at::kBFloat16 &&
                        kernels::accumulate_attention_takes(query.size(3)) &&
                        merged.out.scalar_type() == at::kFloat;
  if (!is_taken || cudnn_for(query) != nullptr) return false;
  const c10::cuda::CUDAGuard guard(query.device());
  const auto dense = [](const at::Tensor& x) {
    return x.stride(3) == 1 && x.stride(2) == x.size(3) ? x : x.contiguous();
  };
  const at::Tensor q = dense(query), k = dense(key), v = dense(value);
  kernels::accumulate_attention_cuda(
      view_of<float>(merged.out), pointer<float>(merged.log_sum_exp),
      view_of<const kernels::bf16>(q), view_of<const kernels::bf16>(k),
      view_of<const kernels::bf16>(v), sizes_of(q, k), current_stream(q));
  return true;
}

}  // namespace pendulum
