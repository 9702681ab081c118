// Attention of one device: own kernels for few keys on the CPU, ATen's flash kernel for many, and
// what attention_cuda.h chooses on a GPU.
#include "ops/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "core/error.h"
#include "kernels/attention.h"
#include "ops/attention_cuda.h"
#include "ops/attention_views.h"
#include "ops/launch.h"
#include "ops/merge_attention.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Up to here a head's scores fit into the cache and our kernels are faster than ATen's, by a third
// at 16 to 64 keys.
constexpr int64_t kFewKeys = 512;

bool has_own_kernel(const at::Tensor& query, const at::Tensor& key) {
  return implementation_for(query) == Implementation::twin && key.size(1) <= kFewKeys &&
         query.numel() > 0 && key.numel() > 0;
}

// The tensor itself where its heads lie side by side, as slices of a projection do; else a copy.
at::Tensor with_dense_heads(const at::Tensor& x) {
  return x.stride(3) == 1 && x.stride(2) == x.size(3) ? x : x.contiguous();
}

// Calls f(scratch, begin, end) for ranges of heads, each thread with a scratch of its own.
template <class T, class Call>
void for_heads(const at::Tensor& query, const kernels::AttentionSizes& sizes, const Call& call) {
  const int64_t per_head = sizes.queries * sizes.keys * sizes.head_dim;
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, per_head));
  parallel_for(0, sizes.batch * sizes.heads, grain, [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = at::empty({kernels::attention_scratch(sizes)}, query.options());
    call(pointer<T>(scratch), begin, end);
  });
}

AttentionOutput own_forward(const at::Tensor& query_in, const at::Tensor& key_in,
                            const at::Tensor& value_in) {
  const at::Tensor query = with_dense_heads(query_in);
  const at::Tensor key = with_dense_heads(key_in);
  const at::Tensor value = with_dense_heads(value_in);
  const auto sizes = sizes_of(query, key);
  AttentionOutput result{at::empty(query.sizes(), query.options()),
                         at::empty({sizes.batch, sizes.heads, sizes.queries}, query.options())};
  with_element(query, [&]<class T>(T) {
    for_heads<T>(query, sizes, [&](T* scratch, int64_t begin, int64_t end) {
      kernels::attention<T>(view_of<T>(result.out), pointer<T>(result.log_sum_exp),
                            view_of<const T>(query), view_of<const T>(key), view_of<const T>(value),
                            scratch, sizes, begin, end);
    });
  });
  return result;
}

AttentionGradients own_backward(const at::Tensor& dout_in, const at::Tensor& query_in,
                                const at::Tensor& key_in, const at::Tensor& value_in,
                                const AttentionOutput& whole) {
  const at::Tensor dout = with_dense_heads(dout_in);
  const at::Tensor query = with_dense_heads(query_in);
  const at::Tensor key = with_dense_heads(key_in);
  const at::Tensor value = with_dense_heads(value_in);
  const at::Tensor out = with_dense_heads(whole.out);
  const at::Tensor log_sum_exp = whole.log_sum_exp.contiguous();
  const auto sizes = sizes_of(query, key);
  AttentionGradients g{at::empty(query.sizes(), query.options()),
                       at::empty(key.sizes(), key.options()),
                       at::empty(value.sizes(), value.options())};
  with_element(query, [&]<class T>(T) {
    for_heads<T>(query, sizes, [&](T* scratch, int64_t begin, int64_t end) {
      kernels::attention_backward<T>(
          view_of<T>(g.query), view_of<T>(g.key), view_of<T>(g.value), view_of<const T>(dout),
          view_of<const T>(query), view_of<const T>(key), view_of<const T>(value),
          view_of<const T>(out), const_pointer<T>(log_sum_exp), scratch, sizes, begin, end);
    });
  });
  return g;
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& query,
                            const at::Tensor& key, const at::Tensor& value, AttentionTape* tape) {
    const auto compute = [&] { return attention_forward(query, key, value); };
    const AttentionOutput result = tape ? tape->take(compute) : compute();
    context->save_for_backward({query, key, value, result.out, result.log_sum_exp});
    return result.out.flatten(2);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor dout = gradients[0].view(saved[3].sizes());
    AttentionGradients g =
        attention_backward(dout, saved[0], saved[1], saved[2], {saved[3], saved[4]});
    return {g.query, g.key, g.value, at::Tensor()};
  }
};

}  // namespace

AttentionOutput attention_forward(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value) {
  check(query.dim() == 4 && key.sizes() == value.sizes() && query.size(0) == key.size(0) &&
            query.size(2) == key.size(2) && query.size(3) == key.size(3),
        "query (B, N, H, d) and key and value (B, M, H, d), found ", query.sizes(), ", ",
        key.sizes(), ", ", value.sizes());
  if (has_own_kernel(query, key)) return own_forward(query, key, value);
#ifdef PENDULUM_CUDA
  if (query.is_cuda()) return cuda_attention_forward(query, key, value);
#endif
  const at::Tensor q = heads_first(query);
  const at::Tensor k = heads_first(key);
  const at::Tensor v = heads_first(value);
  const auto [out, log_sum_exp] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v);
  return {heads_first(out), log_sum_exp};
}

AttentionGradients attention_backward(const at::Tensor& dout, const at::Tensor& query,
                                      const at::Tensor& key, const at::Tensor& value,
                                      const AttentionOutput& whole) {
  if (has_own_kernel(query, key)) return own_backward(dout, query, key, value, whole);
#ifdef PENDULUM_CUDA
  if (query.is_cuda()) return cuda_attention_backward(dout, query, key, value, whole);
#endif
  const at::Tensor d = heads_first(dout);
  const at::Tensor q = heads_first(query);
  const at::Tensor k = heads_first(key);
  const at::Tensor v = heads_first(value);
  const at::Tensor out = heads_first(whole.out);
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      d, q, k, v, out, whole.log_sum_exp, 0.0, false);
  return {heads_first(dq), heads_first(dk), heads_first(dv)};
}

void accumulate_attention(const AttentionOutput& merged, const at::Tensor& query_in,
                          const at::Tensor& key_in, const at::Tensor& value_in) {
#ifdef PENDULUM_CUDA
  if (query_in.is_cuda() && cuda_accumulate_attention(merged, query_in, key_in, value_in)) return;
#endif
  if (!has_own_kernel(query_in, key_in))
    return merge_attention(merged, attention_forward(query_in, key_in, value_in));
  check(merged.out.sizes() == query_in.sizes() && merged.out.is_contiguous() &&
            merged.log_sum_exp.is_contiguous() &&
            merged.out.scalar_type() == query_in.scalar_type(),
        "what empty_attention() gives for the queries, found ", merged.out.sizes(), " for ",
        query_in.sizes());
  const at::Tensor query = with_dense_heads(query_in);
  const at::Tensor key = with_dense_heads(key_in);
  const at::Tensor value = with_dense_heads(value_in);
  const auto sizes = sizes_of(query, key);
  with_element(query, [&]<class T>(T) {
    for_heads<T>(query, sizes, [&](T* scratch, int64_t begin, int64_t end) {
      kernels::accumulate_attention<T>(view_of<T>(merged.out), pointer<T>(merged.log_sum_exp),
                                       view_of<const T>(query), view_of<const T>(key),
                                       view_of<const T>(value), scratch, sizes, begin, end);
    });
  });
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     AttentionTape* tape) {
  return Attention::apply(query, key, value, tape);
}

}  // namespace pendulum
