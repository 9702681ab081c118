// Bias and GELU: kernels where there are some, ATen elsewhere.
#include "ops/bias_gelu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "kernels/bias_gelu.h"
#include "kernels/column_sum.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct BiasGelu : torch::autograd::Function<BiasGelu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& bias) {
    const at::Tensor x = x_in.contiguous();
    const int64_t dim = x.size(-1);
    at::Tensor out = at::empty_like(x);
    if (implementation_for(x) == Implementation::twin) {
      with_element(x, [&]<class T>(T) {
        parallel_for(0, rows_of(x), row_grain(dim), [&](int64_t begin, int64_t end) {
          kernels::bias_gelu(pointer<T>(out), const_pointer<T>(x), const_pointer<T>(bias), dim,
                             begin, end);
        });
      });
    } else {
#ifdef PENDULUM_CUDA
      with_cuda_element(x, [&]<class T>(T) {
        kernels::bias_gelu_cuda(pointer<T>(out), const_pointer<T>(x), const_pointer<float>(bias),
                                rows_of(x), dim, current_stream(x));
      });
#endif
    }
    context->save_for_backward({x, bias});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& bias = saved[1];
    const at::Tensor dout = gradients[0].contiguous();
    const int64_t rows = rows_of(x);
    const int64_t dim = x.size(-1);
    const int64_t pieces = kernels::pieces_of(rows);
    at::Tensor dx = at::empty_like(x);
    at::Tensor dbias = at::empty({1, pieces, dim}, bias.options());
    if (implementation_for(x) == Implementation::twin) {
      with_element(x, [&]<class T>(T) {
        parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
          kernels::bias_gelu_backward(pointer<T>(dx), pointer<T>(dbias), const_pointer<T>(dout),
                                      const_pointer<T>(x), const_pointer<T>(bias), rows, dim, begin,
                                      end);
        });
      });
    } else {
#ifdef PENDULUM_CUDA
      with_cuda_element(x, [&]<class T>(T) {
        kernels::bias_gelu_backward_cuda(pointer<T>(dx), pointer<float>(dbias),
                                         const_pointer<T>(dout), const_pointer<T>(x),
                                         const_pointer<float>(bias), rows, dim, current_stream(x));
      });
#endif
    }
    return {dx, sum_over_pieces(dbias).view({dim})};
  }
};

}  // namespace

at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias) {
  check(bias.dim() == 1 && bias.size(0) == x.size(-1), "one bias per column, found ", x.sizes(),
        " and ", bias.sizes());
  if (implementation_for(x) != Implementation::composite) return BiasGelu::apply(x, bias);
  const auto wide = at::promote_types(x.scalar_type(), at::kFloat);
  return at::gelu(x.to(wide) + bias, "tanh").to(x.scalar_type());
}

}  // namespace pendulum
