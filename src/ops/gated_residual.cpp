// The residual step: kernels where there are some, ATen elsewhere.
#include "ops/gated_residual.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "kernels/column_sum.h"
#include "kernels/gated_residual.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Without a gate the batch is one group: only the bias is shared, and by all rows.
kernels::GatedResidualSizes sizes_of(const at::Tensor& x, const at::Tensor& gate) {
  const int64_t groups = gate.defined() ? rows_of(gate) : 1;
  return {.groups = groups,
          .rows = groups == 0 ? 0 : rows_of(x) / groups,
          .dim = x.size(-1),
          .stride = gate.defined() ? gate.stride(-2) : 0};
}

struct GatedResidual : torch::autograd::Function<GatedResidual> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& y_in, const at::Tensor& bias,
                            const std::optional<at::Tensor>& gate_given) {
    const at::Tensor gate_in = gate_given.value_or(at::Tensor());
    const at::Tensor x = x_in.contiguous();
    const at::Tensor y = y_in.contiguous();
    const at::Tensor gate =
        gate_in.defined() && !has_even_rows(gate_in) ? gate_in.contiguous() : gate_in;
    const auto sizes = sizes_of(x, gate);
    at::Tensor out = at::empty_like(x);
    if (implementation_for(x) == Implementation::twin) {
      with_element(x, [&]<class T>(T) {
        parallel_for(0, rows_of(x), row_grain(sizes.dim), [&](int64_t begin, int64_t end) {
          kernels::gated_residual(pointer<T>(out), const_pointer<T>(x), const_pointer<T>(y),
                                  const_pointer<T>(bias), const_pointer<T>(gate), sizes, begin,
                                  end);
        });
      });
    } else {
#ifdef PENDULUM_CUDA
      with_cuda_element(x, [&]<class T>(T) {
        kernels::gated_residual_cuda(pointer<T>(out), const_pointer<T>(x), const_pointer<T>(y),
                                     const_pointer<float>(bias), const_pointer<float>(gate), sizes,
                                     current_stream(x));
      });
#endif
    }
    // Without a gate the gradients need neither y nor x.
    context->save_for_backward({gate.defined() ? y : at::Tensor(), bias, gate});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& y = saved[0];
    const at::Tensor& bias = saved[1];
    const at::Tensor& gate = saved[2];
    const at::Tensor dout = gradients[0].contiguous();
    const auto sizes = sizes_of(dout, gate);
    const int64_t pieces = kernels::pieces_of(sizes.rows);
    at::Tensor dbias = at::empty({1, sizes.groups * pieces, sizes.dim}, bias.options());
    at::Tensor dy;
    at::Tensor dgate;
    if (gate.defined()) {
      dy = at::empty_like(dout);
      dgate = at::empty({sizes.groups, pieces, sizes.dim}, bias.options());
    }
    if (implementation_for(dout) == Implementation::twin) {
      const int64_t grain = row_grain(sizes.dim * std::min(sizes.rows, kernels::kPieceRows));
      with_element(dout, [&]<class T>(T) {
        parallel_for(0, sizes.groups * pieces, grain, [&](int64_t begin, int64_t end) {
          kernels::gated_residual_backward(pointer<T>(dy), pointer<T>(dgate), pointer<T>(dbias),
                                           const_pointer<T>(dout), const_pointer<T>(y),
                                           const_pointer<T>(bias), const_pointer<T>(gate), sizes,
                                           begin, end);
        });
      });
    } else {
#ifdef PENDULUM_CUDA
      with_cuda_element(dout, [&]<class T>(T) {
        kernels::gated_residual_backward_cuda(
            pointer<T>(dy), pointer<float>(dgate), pointer<float>(dbias), const_pointer<T>(dout),
            const_pointer<T>(y), const_pointer<float>(bias), const_pointer<float>(gate), sizes,
            current_stream(dout));
      });
#endif
    }
    return {dout, gate.defined() ? dy : dout, sum_over_pieces(dbias).view({sizes.dim}),
            gate.defined() ? sum_over_pieces(dgate).view(gate.sizes()) : at::Tensor()};
  }
};

// The definition, from ATen's operators.
at::Tensor composite(const at::Tensor& x, const at::Tensor& y, const at::Tensor& bias,
                     const at::Tensor& gate) {
  const auto wide = at::promote_types(x.scalar_type(), at::kFloat);
  at::Tensor step = y.to(wide) + bias;
  if (gate.defined()) step = step * (gate.dim() == 2 ? gate.unsqueeze(1) : gate);
  return (x.to(wide) + step).to(x.scalar_type());
}

}  // namespace

at::Tensor gated_residual(const at::Tensor& x, const at::Tensor& y, const at::Tensor& bias,
                          const at::Tensor& gate) {
  check(x.dim() == 3 && x.sizes() == y.sizes() && bias.numel() == x.size(-1),
        "x and y (B, N, D) and bias (D), found ", x.sizes(), ", ", y.sizes(), ", ", bias.sizes());
  check(!gate.defined() || (gate.size(0) == x.size(0) && gate.size(-1) == x.size(-1) &&
                            (gate.dim() == 2 || gate.sizes() == x.sizes())),
        "one gate per sample or per token of ", x.sizes());
  if (implementation_for(x) == Implementation::composite) return composite(x, y, bias, gate);
  return GatedResidual::apply(x, y, bias, if_defined(gate));
}

}  // namespace pendulum
