// Which implementation a tensor gets, and how a CPU kernel is spread over threads.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "kernels/types.h"

namespace pendulum {

// twin: fp32 and fp64 on the CPU. cuda: fp32 and bf16 on a GPU, in a build with PENDULUM_CUDA.
// composite: everything else (bf16 on the CPU, fp64 on a GPU), from ATen's own operators, in fp32
// inside as the kernels are.
enum class Implementation { twin, cuda, composite };
Implementation implementation_for(const at::Tensor& x);

// The current CUDA stream of x's device. Only for Implementation::cuda.
kernels::Stream current_stream(const at::Tensor& x);

// How many rows of `dim` elements are worth a thread of their own: 16384 elements, about 10 us of
// work.
inline int64_t row_grain(int64_t dim) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, dim));
}

// The last dimension is the row: all others together are the number of rows.
inline int64_t rows_of(const at::Tensor& x) { return x.numel() / std::max<int64_t>(1, x.size(-1)); }

// Whether the rows of a (groups..., D) tensor lie one fixed distance apart, so that a kernel can
// step over them.
inline bool has_even_rows(const at::Tensor& t) {
  if (t.stride(-1) != 1) return false;
  return t.dim() < 3 || t.size(0) == 1 || t.stride(0) == t.size(1) * t.stride(1);
}

// The elements' sum over pieces, (groups, pieces, dim) -> (groups, dim), in the order of the
// pieces.
at::Tensor sum_over_pieces(const at::Tensor& partial);

// Calls f with a float or a double, whichever x holds: f(T{}) with T of the CPU twins.
template <class Call>
void with_element(const at::Tensor& x, const Call& call) {
  if (x.scalar_type() == at::kDouble) {
    call(double{});
  } else {
    call(float{});
  }
}

// Calls f with a float or a kernels::bf16, the elements of the CUDA kernels. Kernels run on the
// thread's current GPU, whatever stream they get: x's is current meanwhile.
template <class Call>
void with_cuda_element(const at::Tensor& x, const Call& call) {
  const c10::DeviceGuard on_device(x.device());
  if (x.scalar_type() == at::kBFloat16) {
    call(kernels::bf16{});
  } else {
    call(float{});
  }
}

// An argument that an autograd function may be called without: it takes undefined tensors in this
// form alone.
inline std::optional<at::Tensor> if_defined(const at::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

// data_ptr without the check of the element type: T is at::Tensor's type or the kernels' name for
// it. Null where undefined.
template <class T>
T* pointer(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.mutable_data_ptr()) : nullptr;
}
template <class T>
const T* const_pointer(const at::Tensor& x) {
  return x.defined() ? static_cast<const T*>(x.const_data_ptr()) : nullptr;
}

}  // namespace pendulum
