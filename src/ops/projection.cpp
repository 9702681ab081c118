// Matrix products with weights and their gradients.
#include "ops/projection.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>

#include "core/error.h"
#include "kernels/column_sum.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Sum over the rows of a contiguous (rows, dim): on the CPU several times faster than ATen's.
at::Tensor sum_of_rows(const at::Tensor& x) {
  if (implementation_for(x) != Implementation::twin) return x.sum(0);
  const int64_t rows = x.size(0);
  const int64_t dim = x.size(1);
  const int64_t pieces = kernels::pieces_of(rows);
  at::Tensor partial = at::empty({1, pieces, dim}, x.options());
  with_element(x, [&]<class T>(T) {
    parallel_for(0, pieces, row_grain(dim * kernels::kPieceRows), [&](int64_t begin, int64_t end) {
      kernels::column_sum(pointer<T>(partial), const_pointer<T>(x), rows, dim, dim, begin, end);
    });
  });
  return sum_over_pieces(partial).view({dim});
}

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)});
    context->save_for_backward({rows, weight});
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["has_bias"] = bias.has_value();
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return (bias ? at::addmm(*bias, rows, weight.t()) : at::mm(rows, weight.t())).view(shape);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& weight = saved[1];
    const at::Tensor dout = gradients[0].reshape({-1, weight.size(0)}).contiguous();
    at::Tensor dx;
    at::Tensor dweight;
    at::Tensor dbias;
    if (context->needs_input_grad(0))
      dx = at::mm(dout, weight).view(context->saved_data["shape"].toIntVector());
    if (context->needs_input_grad(1)) dweight = at::mm(dout.t(), saved[0]);
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2))
      dbias = sum_of_rows(dout);
    return {dx, dweight, dbias};
  }
};

// Whether the parts lie one behind the other in memory, as parameters that were allocated together
// do.
bool are_adjacent(const variable_list& parts) {
  const char* next = static_cast<const char*>(parts[0].const_data_ptr());
  const void* storage = parts[0].storage().unsafeGetStorageImpl();
  for (const at::Tensor& part : parts) {
    if (!part.is_contiguous() || part.const_data_ptr() != next ||
        part.storage().unsafeGetStorageImpl() != storage)
      return false;
    next += part.nbytes();
  }
  return true;
}

struct Joined : torch::autograd::Function<Joined> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& first,
                            const at::Tensor& second, const std::optional<at::Tensor>& third,
                            int64_t type) {
    variable_list parts{first, second};
    if (third) parts.push_back(*third);
    std::vector<int64_t> rows;
    for (const at::Tensor& part : parts) rows.push_back(part.size(0));
    context->saved_data["rows"] = rows;
    context->saved_data["type"] = static_cast<int64_t>(first.scalar_type());
    auto shape = first.sizes().vec();
    shape[0] = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    const auto wanted = static_cast<at::ScalarType>(type);
    if (first.scalar_type() == wanted && are_adjacent(parts)) {
      return first.detach().as_strided(shape, first.strides(), first.storage_offset());
    }
    at::Tensor out = at::empty(shape, first.options().dtype(wanted));
    int64_t row = 0;
    for (const at::Tensor& part : parts) {
      out.narrow(0, row, part.size(0)).copy_(part);
      row += part.size(0);
    }
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto rows = context->saved_data["rows"].toIntVector();
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    variable_list out(4);
    int64_t row = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (gradients[0].defined()) out[i] = gradients[0].narrow(0, row, rows[i]).to(type);
      row += rows[i];
    }
    return out;
  }
};

}  // namespace

at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  check(weight.dim() == 2 && x.size(-1) == weight.size(1), "x (..., K) and weight (M, K), found ",
        x.sizes(), " and ", weight.sizes());
  return Linear::apply(x, weight, if_defined(bias));
}

at::Tensor joined(const std::vector<at::Tensor>& parts, at::ScalarType type) {
  check(parts.size() == 2 || parts.size() == 3, "two or three parts, found ", parts.size());
  return Joined::apply(parts[0], parts[1],
                       parts.size() == 3 ? std::optional(parts[2]) : std::nullopt,
                       static_cast<int64_t>(type));
}

}  // namespace pendulum
