// RMS norm and SiLU: the kernel on a CPU, ATen elsewhere.
#include "ops/rms_silu.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "kernels/rms_silu.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {

void rms_silu(const at::Tensor& out, const at::Tensor& x, const at::Tensor& gamma) {
  const int64_t dim = x.size(-1);
  check(out.sizes() == x.sizes() && gamma.numel() == dim && out.scalar_type() == x.scalar_type() &&
            gamma.scalar_type() == x.scalar_type(),
        "an output like the input and one weight per column, found ", out.sizes(), ", ", x.sizes(),
        " and ", gamma.sizes());
  if (implementation_for(x) == Implementation::twin) {
    for (int64_t piece = 0; piece < x.size(0); ++piece) {
      const at::Tensor from = x.select(0, piece), to = out.select(0, piece);
      check(from.is_contiguous() && to.is_contiguous(), "contiguous pieces: ", x.strides(), " and ",
            out.strides());
      with_element(x, [&]<class T>(T) {
        parallel_for(0, rows_of(from), row_grain(dim), [&](int64_t begin, int64_t end) {
          kernels::rms_silu(pointer<T>(to), const_pointer<T>(from), const_pointer<T>(gamma), dim,
                            begin, end);
        });
      });
    }
    return;
  }
  const at::Tensor wide = x.to(at::promote_types(x.scalar_type(), at::kFloat));
  const at::Tensor length = wide.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
  at::Tensor(out).copy_(at::silu(wide / length * std::sqrt(static_cast<double>(dim)) * gamma));
}

}  // namespace pendulum
