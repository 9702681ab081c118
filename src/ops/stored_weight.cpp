// Storing, restoring, and the product with its gradient.
#include "ops/stored_weight.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "kernels/scaled_codes.h"
#include "ops/launch.h"
#include "ops/parallel.h"
#include "ops/projection.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool has_scales(WeightStorage storage) {
  return storage == WeightStorage::fp8 || storage == WeightStorage::int8;
}

// Calls f with the kernels' type of a weight's codes.
template <class Call>
void with_code(const StoredWeight& weight, const Call& call) {
  if (weight.storage == WeightStorage::int8) {
    call(int8_t{});
  } else {
    call(kernels::e4m3{});
  }
}

// Into `out` (M, K): fp32, on a GPU also bf16.
void decode(const at::Tensor& out, const StoredWeight& weight) {
  with_code(weight, [&]<class Code>(Code) {
    const auto* codes = const_pointer<Code>(weight.codes);
    const auto* scales = const_pointer<float>(weight.scales);
    if (out.is_cpu()) {
      parallel_for(0, weight.rows, row_grain(weight.columns), [&](int64_t begin, int64_t end) {
        kernels::decode(pointer<float>(out), codes, scales, weight.columns, begin, end);
      });
      return;
    }
#ifdef PENDULUM_CUDA
    with_cuda_element(out, [&]<class T>(T) {
      kernels::decode_cuda(pointer<T>(out), codes, scales, weight.rows, weight.columns,
                           current_stream(out));
    });
#endif
  });
}

struct Kept : torch::CustomClassHolder {
  explicit Kept(StoredWeights of) : weights(std::move(of)) {}
  StoredWeights weights;
};

struct StoredLinear : torch::autograd::Function<StoredLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const std::optional<at::Tensor>& bias, const StoredWeights* weights) {
    context->saved_data["weights"] = c10::IValue::make_capsule(c10::make_intrusive<Kept>(*weights));
    context->saved_data["shape"] = x.sizes().vec();
    const at::Tensor weight = restored(*weights, x.scalar_type());
    const at::Tensor rows = x.reshape({-1, x.size(-1)});
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return (bias ? at::addmm(*bias, rows, weight.t()) : at::mm(rows, weight.t())).view(shape);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!context->needs_input_grad(0)) return {{}, {}, {}};
    const auto kept =
        c10::static_intrusive_pointer_cast<Kept>(context->saved_data["weights"].toCapsule());
    const at::Tensor weight = restored(kept->weights, gradients[0].scalar_type());
    const at::Tensor dout = gradients[0].reshape({-1, weight.size(0)}).contiguous();
    return {at::mm(dout, weight).view(context->saved_data["shape"].toIntVector()), {}, {}};
  }
};

}  // namespace

WeightStorage parse_weight_storage(const std::string& name) {
  if (name == "fp32") return WeightStorage::fp32;
  if (name == "bf16") return WeightStorage::bf16;
  if (name == "fp8") return WeightStorage::fp8;
  if (name == "int8") return WeightStorage::int8;
  throw ConfigError(
      text("model.frozen_precision: '", name, "' is not known; fp32, bf16, fp8 or int8"));
}

std::string in_words(WeightStorage storage) {
  const std::string scales = text(" with a scale for every ", kernels::kScaleWidth);
  switch (storage) {
    case WeightStorage::fp32:
      return "fp32";
    case WeightStorage::bf16:
      return "bf16";
    case WeightStorage::fp8:
      return "fp8" + scales;
    case WeightStorage::int8:
      return "int8" + scales;
  }
  check(false, "a storage of weights");
  return "";
}

at::ScalarType code_type(WeightStorage storage) {
  switch (storage) {
    case WeightStorage::fp32:
      return at::kFloat;
    case WeightStorage::bf16:
      return at::kBFloat16;
    case WeightStorage::fp8:
      return at::kFloat8_e4m3fn;
    case WeightStorage::int8:
      return at::kChar;
  }
  check(false, "a storage of weights");
  return at::kFloat;
}

int64_t scales_per_row(WeightStorage storage, int64_t columns) {
  return has_scales(storage) ? kernels::scales_of(columns) : 0;
}

bool is_storable(const at::Tensor& values) {
  const auto [least, most] = at::aminmax(values);  // NaN where there is one
  constexpr double kBound = 0x1p127;
  return least.item<double>() >= -kBound && most.item<double>() <= kBound;
}

void store(const StoredWeight& weight, const at::Tensor& values) {
  check(values.is_cpu() && weight.codes.is_cpu() && values.sizes() == weight.codes.sizes(),
        "values on the CPU of the shape ", weight.codes.sizes(), ", found ", values.sizes());
  const at::NoGradGuard no_grad;
  if (!has_scales(weight.storage)) {
    weight.codes.copy_(values);
    return;
  }
  const at::Tensor x = values.detach().to(at::kFloat).contiguous();
  with_code(weight, [&]<class Code>(Code) {
    parallel_for(0, weight.rows, row_grain(weight.columns), [&](int64_t begin, int64_t end) {
      kernels::encode(pointer<Code>(weight.codes), pointer<float>(weight.scales),
                      const_pointer<float>(x), weight.columns, begin, end);
    });
  });
}

at::Tensor restored(const StoredWeights& weights, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  int64_t rows = 0;
  for (const auto& weight : weights) {
    check(weight->codes.defined(), "a stored weight that is here");
    rows += weight->rows;
  }
  const StoredWeight& first = *weights.front();
  if (!has_scales(first.storage)) {
    if (weights.size() == 1) return first.codes.to(type);
    std::vector<at::Tensor> parts;
    for (const auto& weight : weights) parts.push_back(weight->codes);
    return joined(parts, type);
  }
  const bool is_narrow = first.codes.is_cuda() && type == at::kBFloat16;
  const at::Tensor out = at::empty(
      {rows, first.columns}, first.codes.options().dtype(is_narrow ? at::kBFloat16 : at::kFloat));
  int64_t row = 0;
  for (const auto& weight : weights) {
    decode(out.narrow(0, row, weight->rows), *weight);
    row += weight->rows;
  }
  return out.to(type);
}

at::Tensor project(const at::Tensor& x, const StoredWeights& weights, const at::Tensor& bias) {
  check(!weights.empty() && weights.size() <= 3, "one to three weights, found ", weights.size());
  for (const auto& weight : weights) {
    check(x.size(-1) == weight->columns && weight->storage == weights.front()->storage,
          "x (..., K) and weights (M, K) stored alike, found ", x.sizes(), " and K ",
          weight->columns);
  }
  check(!bias.defined() || !bias.requires_grad(), "a bias that does not train");
  return StoredLinear::apply(x, if_defined(bias), &weights);
}

}  // namespace pendulum
