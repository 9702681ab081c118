// RMS norm across heads, rotation and the split into heads: kernels where there are some, ATen
// elsewhere.
#include "ops/norm_rotary.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "kernels/column_sum.h"
#include "kernels/qk_norm_rotary.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

kernels::QkNormRotarySizes sizes_of(const at::Tensor& packed, int64_t dim, int64_t heads,
                                    double eps) {
  return {.rows = rows_of(packed),
          .tokens = packed.size(1),
          .heads = heads,
          .head_dim = dim / heads,
          .stride = packed.size(-1),
          .eps = eps};
}

// The slice of `packed` that projection `part` is.
at::Tensor slice(const at::Tensor& packed, int64_t part, int64_t dim) {
  return packed.narrow(-1, part * dim, dim);
}

void forward_kernel(const at::Tensor& out, const at::Tensor& rstd, const at::Tensor& x,
                    const at::Tensor& weight, const at::Tensor& cosine, const at::Tensor& sine,
                    const kernels::QkNormRotarySizes& sizes) {
  if (implementation_for(x) == Implementation::twin) {
    with_element(x, [&]<class T>(T) {
      const int64_t grain = row_grain(sizes.heads * sizes.head_dim);
      parallel_for(0, sizes.rows, grain, [&](int64_t begin, int64_t end) {
        kernels::qk_norm_rotary(pointer<T>(out), pointer<T>(rstd), const_pointer<T>(x),
                                const_pointer<T>(weight), const_pointer<T>(cosine),
                                const_pointer<T>(sine), sizes, begin, end);
      });
    });
    return;
  }
#ifdef PENDULUM_CUDA
  with_cuda_element(x, [&]<class T>(T) {
    kernels::qk_norm_rotary_cuda(pointer<T>(out), pointer<float>(rstd), const_pointer<T>(x),
                                 const_pointer<float>(weight), const_pointer<float>(cosine),
                                 const_pointer<float>(sine), sizes, current_stream(x));
  });
#endif
}

void backward_kernel(const at::Tensor& dx, const at::Tensor& dweight, const at::Tensor& dout,
                     const at::Tensor& x, const at::Tensor& rstd, const at::Tensor& weight,
                     const at::Tensor& cosine, const at::Tensor& sine,
                     const kernels::QkNormRotarySizes& sizes) {
  if (implementation_for(x) == Implementation::twin) {
    with_element(x, [&]<class T>(T) {
      parallel_for(0, kernels::pieces_of(sizes.rows), 1, [&](int64_t begin, int64_t end) {
        kernels::qk_norm_rotary_backward(
            pointer<T>(dx), pointer<T>(dweight), const_pointer<T>(dout), const_pointer<T>(x),
            const_pointer<T>(rstd), const_pointer<T>(weight), const_pointer<T>(cosine),
            const_pointer<T>(sine), sizes, begin, end);
      });
    });
    return;
  }
#ifdef PENDULUM_CUDA
  with_cuda_element(x, [&]<class T>(T) {
    kernels::qk_norm_rotary_backward_cuda(
        pointer<T>(dx), pointer<float>(dweight), const_pointer<T>(dout), const_pointer<T>(x),
        const_pointer<float>(rstd), const_pointer<float>(weight), const_pointer<float>(cosine),
        const_pointer<float>(sine), sizes, current_stream(x));
  });
#endif
}

// The first tensor is the packed projections; then up to two weights (the second may be undefined)
// and the tables.
struct NormRotary : torch::autograd::Function<NormRotary> {
  static variable_list forward(AutogradContext* context, const at::Tensor& packed_in,
                               const at::Tensor& first_weight,
                               const std::optional<at::Tensor>& second_given,
                               const std::optional<at::Tensor>& cosine_given,
                               const std::optional<at::Tensor>& sine_given, int64_t heads,
                               double eps) {
    const at::Tensor second_weight = second_given.value_or(at::Tensor());
    const at::Tensor cosine = cosine_given.value_or(at::Tensor());
    const at::Tensor sine = sine_given.value_or(at::Tensor());
    const at::Tensor packed = packed_in.contiguous();
    const int64_t dim = first_weight.size(0);
    const auto sizes = sizes_of(packed, dim, heads, eps);
    const int64_t normed = second_weight.defined() ? 2 : 1;
    const std::vector<int64_t> shape{packed.size(0), packed.size(1), heads, dim / heads};
    at::Tensor rstd = at::empty({normed, sizes.rows}, first_weight.options());
    variable_list out;
    for (int64_t part = 0; part < packed.size(-1) / dim; ++part) {
      if (part >= normed) {
        out.push_back(slice(packed, part, dim).view(shape));
        continue;
      }
      out.push_back(at::empty(shape, packed.options()));
      forward_kernel(out.back(), rstd.select(0, part), slice(packed, part, dim),
                     part == 0 ? first_weight : second_weight, cosine, sine, sizes);
    }
    context->save_for_backward({packed, first_weight, second_weight, cosine, sine, rstd});
    context->saved_data["heads"] = heads;
    context->saved_data["eps"] = eps;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& packed = saved[0];
    const int64_t dim = saved[1].size(0);
    const auto sizes = sizes_of(packed, dim, context->saved_data["heads"].toInt(),
                                context->saved_data["eps"].toDouble());
    const int64_t normed = saved[2].defined() ? 2 : 1;
    at::Tensor dpacked = at::empty_like(packed);
    variable_list dweights(2);
    for (int64_t part = 0; part < packed.size(-1) / dim; ++part) {
      const at::Tensor dslice = slice(dpacked, part, dim);
      const at::Tensor& dout = gradients[static_cast<size_t>(part)];
      if (!dout.defined()) {
        at::Tensor(dslice).zero_();
        continue;
      }
      if (part >= normed) {
        at::Tensor(dslice).copy_(dout.reshape(dslice.sizes()));
        continue;
      }
      at::Tensor partial = at::empty({1, kernels::pieces_of(sizes.rows), dim}, saved[1].options());
      backward_kernel(dslice, partial, dout.contiguous(), slice(packed, part, dim),
                      saved[5].select(0, part), saved[static_cast<size_t>(1 + part)], saved[3],
                      saved[4], sizes);
      dweights[static_cast<size_t>(part)] = sum_over_pieces(partial).view({dim});
    }
    return {dpacked,      dweights[0],  dweights[1], at::Tensor(),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// Queries, keys and values, each cut into the parts that `sizes` names.
struct NormRotaryDealt : torch::autograd::Function<NormRotaryDealt> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& packed_in,
                            const at::Tensor& query_weight, const at::Tensor& key_weight,
                            const at::Tensor& cosine, const at::Tensor& sine, int64_t heads,
                            double eps, int64_t parts) {
    const at::Tensor packed = packed_in.contiguous();
    const int64_t dim = query_weight.size(0);
    const auto sizes = cut_sizes(packed, dim, heads, eps, parts);
    const at::Tensor out = at::empty(
        {3, parts, packed.size(0), packed.size(1), heads / parts, dim / heads}, packed.options());
    const at::Tensor rstd = at::empty({2, sizes.rows}, query_weight.options());
    const at::Tensor weights[] = {query_weight, key_weight, at::Tensor()};
    for (int64_t i = 0; i < 3; ++i)
      forward_kernel(out[i], i < 2 ? rstd[i] : at::Tensor(), slice(packed, i, dim), weights[i],
                     cosine, sine, sizes);
    context->save_for_backward({packed, query_weight, key_weight, cosine, sine, rstd});
    context->saved_data["heads"] = heads;
    context->saved_data["eps"] = eps;
    context->saved_data["parts"] = parts;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& packed = saved[0];
    const int64_t dim = saved[1].size(0);
    const auto sizes =
        cut_sizes(packed, dim, context->saved_data["heads"].toInt(),
                  context->saved_data["eps"].toDouble(), context->saved_data["parts"].toInt());
    const at::Tensor dout = gradients[0].contiguous();
    const at::Tensor dpacked = at::empty_like(packed);
    variable_list dweights;
    for (int64_t i = 0; i < 3; ++i) {
      const bool is_normed = i < 2;
      const at::Tensor partial =
          is_normed ? at::empty({1, kernels::pieces_of(sizes.rows), dim}, saved[1].options())
                    : at::Tensor();
      backward_kernel(slice(dpacked, i, dim), partial, dout[i], slice(packed, i, dim),
                      is_normed ? saved[5][i] : at::Tensor(),
                      is_normed ? saved[static_cast<size_t>(1 + i)] : at::Tensor(), saved[3],
                      saved[4], sizes);
      if (is_normed) dweights.push_back(sum_over_pieces(partial).view({dim}));
    }
    return {dpacked,      dweights[0],  dweights[1],  at::Tensor(),
            at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static kernels::QkNormRotarySizes cut_sizes(const at::Tensor& packed, int64_t dim, int64_t heads,
                                              double eps, int64_t parts) {
    auto sizes = sizes_of(packed, dim, heads, eps);
    sizes.parts = parts;
    sizes.part_stride = sizes.rows * sizes.part_dim();
    return sizes;
  }
};

// The definition, from ATen's operators.
std::vector<at::Tensor> composite(const at::Tensor& packed, const std::vector<at::Tensor>& weights,
                                  const RotaryTables* tables, int64_t heads, double eps) {
  const int64_t dim = weights[0].size(0);
  const auto wide = at::promote_types(packed.scalar_type(), at::kFloat);
  std::vector<at::Tensor> out;
  for (int64_t part = 0; part < packed.size(-1) / dim; ++part) {
    at::Tensor x = slice(packed, part, dim);
    if (part < static_cast<int64_t>(weights.size())) {
      x = x.to(wide);
      x = x * at::rsqrt(x.square().mean(-1, true) + eps) * weights[static_cast<size_t>(part)];
      if (tables != nullptr) {
        const auto pairs = x.unflatten(-1, {heads, dim / heads / 2, 2}).unbind(-1);
        const at::Tensor cosine = tables->cosine.unsqueeze(1);
        const at::Tensor sine = tables->sine.unsqueeze(1);
        x = at::stack({pairs[0] * cosine - pairs[1] * sine, pairs[0] * sine + pairs[1] * cosine},
                      -1)
                .flatten(-3);
      }
      x = x.to(packed.scalar_type());
    }
    out.push_back(x.unflatten(-1, {heads, dim / heads}));
  }
  return out;
}

void check_projections(const at::Tensor& packed, const std::vector<at::Tensor>& weights,
                       const RotaryTables* tables, int64_t heads) {
  const int64_t dim = weights[0].size(0);
  check(dim % heads == 0 && dim / heads % 2 == 0 && packed.size(-1) % dim == 0 &&
            packed.size(-1) / dim >= static_cast<int64_t>(weights.size()),
        "projections of an even number of elements per head, found ", packed.sizes(), " for ",
        heads, " heads of ", dim, " elements together");
  check(tables == nullptr ||
            (tables->cosine.size(0) == packed.size(1) && tables->cosine.size(1) == dim / heads / 2),
        "one row of angles per token, found ", packed.sizes());
}

}  // namespace

at::Tensor deal_heads(const std::vector<at::Tensor>& qkv, int64_t parts) {
  const at::Tensor whole = at::stack(qkv);  // (3, B, N, H, d)
  const auto s = whole.sizes();
  return whole.view({s[0], s[1], s[2], parts, s[3] / parts, s[4]})
      .permute({0, 3, 1, 2, 4, 5})
      .contiguous();
}

at::Tensor norm_rotary_dealt(const at::Tensor& packed, const std::vector<at::Tensor>& weights,
                             const RotaryTables& tables, int64_t heads, double eps, int64_t parts) {
  check(packed.dim() == 3 && weights.size() == 2 && packed.size(-1) == 3 * weights[0].size(0) &&
            heads % parts == 0,
        "projections (B, N, 3 * D), two weights and heads that ", parts, " ranks divide, found ",
        packed.sizes(), ", ", weights.size(), " and ", heads);
  if (implementation_for(packed) == Implementation::composite)
    return deal_heads(norm_rotary(packed, weights, &tables, heads, eps), parts);
  check_projections(packed, weights, &tables, heads);
  return NormRotaryDealt::apply(packed, weights[0], weights[1], tables.cosine, tables.sine, heads,
                                eps, parts);
}

std::vector<at::Tensor> norm_rotary(const at::Tensor& packed,
                                    const std::vector<at::Tensor>& weights,
                                    const RotaryTables* tables, int64_t heads, double eps) {
  check(packed.dim() == 3 && (weights.size() == 1 || weights.size() == 2),
        "projections (B, N, P * D) and one or two weights, found ", packed.sizes(), " and ",
        weights.size());
  check_projections(packed, weights, tables, heads);
  if (implementation_for(packed) == Implementation::composite)
    return composite(packed, weights, tables, heads, eps);
  return NormRotary::apply(
      packed, weights[0], weights.size() == 2 ? std::optional(weights[1]) : std::nullopt,
      tables == nullptr ? std::nullopt : std::optional(tables->cosine),
      tables == nullptr ? std::nullopt : std::optional(tables->sine), heads, eps);
}

}  // namespace pendulum
