// Which implementation a tensor gets, and sums over pieces.
#include "ops/launch.h"

#include <ATen/ATen.h>

#ifdef PENDULUM_CUDA
#include <c10/cuda/CUDAStream.h>
#endif

#include "core/error.h"
#include "kernels/column_sum.h"
#include "ops/parallel.h"

namespace pendulum {

Implementation implementation_for(const at::Tensor& x) {
  const at::ScalarType type = x.scalar_type();
  if (x.is_cpu() && (type == at::kFloat || type == at::kDouble)) return Implementation::twin;
#ifdef PENDULUM_CUDA
  if (x.is_cuda() && (type == at::kFloat || type == at::kBFloat16)) return Implementation::cuda;
#endif
  return Implementation::composite;
}

kernels::Stream current_stream(const at::Tensor& x) {
#ifdef PENDULUM_CUDA
  return c10::cuda::getCurrentCUDAStream(x.device().index()).stream();
#else
  check(false, "a build with CUDA for a tensor on ", x.device());
  return nullptr;
#endif
}

at::Tensor sum_over_pieces(const at::Tensor& partial) {
  const int64_t groups = partial.size(0);
  const int64_t pieces = partial.size(1);
  const int64_t dim = partial.size(2);
  if (pieces == 1) return partial.view({groups, dim});
  at::Tensor out = at::empty({groups, dim}, partial.options());
  if (partial.is_cuda()) {
#ifdef PENDULUM_CUDA
    const c10::DeviceGuard on_device(partial.device());
    kernels::sum_pieces_cuda(pointer<float>(out), const_pointer<float>(partial), groups, pieces,
                             dim, current_stream(partial));
#endif
    return out;
  }
  with_element(partial, [&]<class T>(T) {
    parallel_for(0, groups, row_grain(pieces * dim), [&](int64_t begin, int64_t end) {
      kernels::sum_pieces(pointer<T>(out), const_pointer<T>(partial), pieces, dim, begin, end);
    });
  });
  return out;
}

}  // namespace pendulum
