// Merging of partial attention on tensors.
#include "ops/merge_attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <limits>

#include "core/error.h"
#include "kernels/merge_attention.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {

AttentionOutput empty_attention(const at::Tensor& query) {
  const auto wide = query.options().dtype(at::promote_types(query.scalar_type(), at::kFloat));
  return {at::zeros(query.sizes(), wide), at::full({query.size(0), query.size(2), query.size(1)},
                                                   -std::numeric_limits<double>::infinity(), wide)};
}

void merge_attention_plainly(const AttentionOutput& merged, const AttentionOutput& part) {
  const at::NoGradGuard no_grad;
  const at::Tensor statistic = part.log_sum_exp.to(merged.log_sum_exp.scalar_type());
  const at::Tensor whole = at::logaddexp(merged.log_sum_exp, statistic);
  // (B, H, N) -> (B, N, H, 1). Of what has no keys zero, where the difference may be of infinities.
  const auto share_of = [&](const at::Tensor& x) {
    const at::Tensor share = at::exp(x - whole).masked_fill(at::isneginf(x), 0);
    return share.transpose(1, 2).unsqueeze(-1);
  };
  const at::Tensor has_keys = at::isneginf(statistic).logical_not().transpose(1, 2).unsqueeze(-1);
  const at::Tensor out = part.out.to(merged.out.scalar_type());
  const at::Tensor both = merged.out * share_of(merged.log_sum_exp) + out * share_of(statistic);
  at::Tensor(merged.out).copy_(at::where(has_keys, both, merged.out));
  at::Tensor(merged.log_sum_exp).copy_(whole);
}

void merge_attention(const AttentionOutput& merged, const AttentionOutput& part) {
  check(merged.out.is_contiguous() && merged.log_sum_exp.is_contiguous() &&
            part.out.sizes() == merged.out.sizes() &&
            part.log_sum_exp.sizes() == merged.log_sum_exp.sizes(),
        "a part shaped as the whole, found ", part.out.sizes(), " for ", merged.out.sizes());
  const kernels::MergeAttentionSizes sizes{merged.out.size(0), merged.out.size(1),
                                           merged.out.size(2), merged.out.size(3)};
  const bool has_kernel =
      merged.out.is_cpu() || (merged.out.scalar_type() == at::kFloat && sizes.head_dim % 4 == 0 &&
                              implementation_for(part.out) == Implementation::cuda);
  if (!has_kernel) return merge_attention_plainly(merged, part);
  const at::Tensor statistic = part.log_sum_exp.to(merged.log_sum_exp.scalar_type()).contiguous();
  if (merged.out.is_cuda()) {
#ifdef PENDULUM_CUDA
    const at::Tensor out = part.out.contiguous();
    with_cuda_element(out, [&]<class T>(T) {
      kernels::merge_attention_cuda<T>(pointer<float>(merged.out),
                                       pointer<float>(merged.log_sum_exp), const_pointer<T>(out),
                                       const_pointer<float>(statistic), sizes, current_stream(out));
    });
#endif
    return;
  }
  const at::Tensor out = part.out.to(merged.out.scalar_type()).contiguous();
  with_element(out, [&]<class T>(T) {
    parallel_for(0, sizes.batch * sizes.queries * sizes.heads, row_grain(sizes.head_dim),
                 [&](int64_t begin, int64_t end) {
                   kernels::merge_attention<T>(
                       pointer<T>(merged.out), pointer<T>(merged.log_sum_exp),
                       const_pointer<T>(out), const_pointer<T>(statistic), sizes, begin, end);
                 });
  });
}

}  // namespace pendulum
