// Layer norm and modulation: kernels where there are some, ATen elsewhere.
#include "ops/norm_modulate.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "kernels/column_sum.h"
#include "kernels/norm_modulate.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

kernels::NormModulateSizes sizes_of(const at::Tensor& x, const at::Tensor& scale, double eps,
                                    double offset) {
  const int64_t groups = rows_of(scale);
  return {.groups = groups,
          .rows = groups == 0 ? 0 : rows_of(x) / groups,
          .dim = x.size(-1),
          .stride = scale.dim() == 1 ? x.size(-1) : scale.stride(-2),
          .eps = eps,
          .offset = offset};
}

struct NormModulate : torch::autograd::Function<NormModulate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& scale_in, const at::Tensor& shift_in, double eps,
                            double offset) {
    const at::Tensor x = x_in.contiguous();
    at::Tensor scale = scale_in;
    at::Tensor shift = shift_in;
    if (!has_even_rows(scale) || !has_even_rows(shift) || scale.strides() != shift.strides()) {
      scale = scale.contiguous();
      shift = shift.contiguous();
    }
    const auto sizes = sizes_of(x, scale, eps, offset);
    const int64_t rows = sizes.groups * sizes.rows;
    at::Tensor out = at::empty_like(x);
    at::Tensor mean = at::empty({rows}, scale.options());
    at::Tensor rstd = at::empty({rows}, scale.options());
    if (implementation_for(x) == Implementation::twin) {
      with_element(x, [&]<class T>(T) {
        parallel_for(0, rows, row_grain(sizes.dim), [&](int64_t begin, int64_t end) {
          kernels::norm_modulate(pointer<T>(out), pointer<T>(mean), pointer<T>(rstd),
                                 const_pointer<T>(x), const_pointer<T>(scale),
                                 const_pointer<T>(shift), sizes, begin, end);
        });
      });
    } else {
#ifdef PENDULUM_CUDA
      with_cuda_element(x, [&]<class T>(T) {
        kernels::norm_modulate_cuda(pointer<T>(out), pointer<float>(mean), pointer<float>(rstd),
                                    const_pointer<T>(x), const_pointer<float>(scale),
                                    const_pointer<float>(shift), sizes, current_stream(x));
      });
#endif
    }
    context->save_for_backward({x, scale, mean, rstd});
    context->saved_data["eps"] = eps;
    context->saved_data["offset"] = offset;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& scale = saved[1];
    const at::Tensor dout = gradients[0].contiguous();
    const auto sizes = sizes_of(x, scale, context->saved_data["eps"].toDouble(),
                                context->saved_data["offset"].toDouble());
    const int64_t pieces = kernels::pieces_of(sizes.rows);
    at::Tensor dx = at::empty_like(x);
    at::Tensor dscale = at::empty({sizes.groups, pieces, sizes.dim}, scale.options());
    at::Tensor dshift = at::empty({sizes.groups, pieces, sizes.dim}, scale.options());
    if (implementation_for(x) == Implementation::twin) {
      const int64_t grain = row_grain(sizes.dim * std::min(sizes.rows, kernels::kPieceRows));
      with_element(x, [&]<class T>(T) {
        parallel_for(0, sizes.groups * pieces, grain, [&](int64_t begin, int64_t end) {
          kernels::norm_modulate_backward(pointer<T>(dx), pointer<T>(dscale), pointer<T>(dshift),
                                          const_pointer<T>(dout), const_pointer<T>(x),
                                          const_pointer<T>(saved[2]), const_pointer<T>(saved[3]),
                                          const_pointer<T>(scale), sizes, begin, end);
        });
      });
    } else {
#ifdef PENDULUM_CUDA
      with_cuda_element(x, [&]<class T>(T) {
        kernels::norm_modulate_backward_cuda(
            pointer<T>(dx), pointer<float>(dscale), pointer<float>(dshift), const_pointer<T>(dout),
            const_pointer<T>(x), const_pointer<float>(saved[2]), const_pointer<float>(saved[3]),
            const_pointer<float>(scale), sizes, current_stream(x));
      });
#endif
    }
    return {dx, sum_over_pieces(dscale).view(scale.sizes()),
            sum_over_pieces(dshift).view(scale.sizes()), at::Tensor(), at::Tensor()};
  }
};

// The definition, from ATen's operators.
at::Tensor composite(const at::Tensor& x, const at::Tensor& scale_in, const at::Tensor& shift_in,
                     double eps, double offset) {
  const auto wide = at::promote_types(x.scalar_type(), at::kFloat);
  const bool per_sample = scale_in.dim() == 2;
  const at::Tensor scale = per_sample ? scale_in.unsqueeze(1) : scale_in;
  const at::Tensor shift = per_sample ? shift_in.unsqueeze(1) : shift_in;
  const at::Tensor norm = at::layer_norm(x.to(wide), {x.size(-1)}, {}, {}, eps);
  return (norm * (offset + scale) + shift).to(x.scalar_type());
}

}  // namespace

at::Tensor norm_modulate(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift,
                         double eps, double offset) {
  check(x.dim() == 3 && scale.sizes() == shift.sizes() && scale.size(-1) == x.size(-1),
        "x (B, N, D) and scale and shift of one shape, found ", x.sizes(), ", ", scale.sizes(),
        ", ", shift.sizes());
  check(scale.dim() == 1 || scale.size(0) == x.size(0), "one scale per sample, found ", x.sizes(),
        " and ", scale.sizes());
  check(scale.dim() < 3 || scale.sizes() == x.sizes(), "one scale per token, found ", x.sizes(),
        " and ", scale.sizes());
  if (implementation_for(x) == Implementation::composite)
    return composite(x, scale, shift, eps, offset);
  return NormModulate::apply(x, scale, shift, eps, offset);
}

}  // namespace pendulum
