// Reduces with ATen, so that the same code serves CPU and GPU.
#include "comm/reduction.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"

namespace pendulum {

void reduce_in_order(const at::Tensor& out, const std::vector<at::Tensor>& parts, Reduce reduce) {
  const at::NoGradGuard no_grad;
  check(!parts.empty(), "parts to reduce");
  const bool wide = out.scalar_type() == at::kBFloat16;
  at::Tensor sum = wide ? parts[0].to(at::kFloat, false, /*copy=*/true) : out;
  if (!wide) out.copy_(parts[0].view_as(out));
  for (size_t i = 1; i < parts.size(); ++i) {
    const at::Tensor part = parts[i].view_as(sum);  // fp32 += bf16 widens on the way
    switch (reduce) {
      case Reduce::sum:
        sum.add_(part);
        break;
      case Reduce::max:
        at::maximum_out(sum, sum, wide ? part.to(at::kFloat) : part);
        break;
      case Reduce::min:
        at::minimum_out(sum, sum, wide ? part.to(at::kFloat) : part);
        break;
    }
  }
  if (wide) out.copy_(sum.view_as(out));
}

}  // namespace pendulum
