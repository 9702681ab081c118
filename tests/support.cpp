// Comparisons of tensors that NaN fails, and gradients by central differences.
#include "support.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace pendulum {
namespace {

at::Tensor wide(const at::Tensor& x) { return x.detach().to(at::kCPU, at::kDouble).contiguous(); }

}  // namespace

double largest_difference(const at::Tensor& actual, const at::Tensor& expected) {
  if (!actual.defined() || actual.sizes() != expected.sizes())
    return std::numeric_limits<double>::infinity();
  if (actual.numel() == 0) return 0;
  const double largest = (wide(actual) - wide(expected)).abs().max().item<double>();
  return std::isnan(largest) ? std::numeric_limits<double>::infinity() : largest;
}

double relative_difference(const at::Tensor& actual, const at::Tensor& expected) {
  if (!actual.defined() || actual.sizes() != expected.sizes())
    return std::numeric_limits<double>::infinity();
  const double norm = wide(expected).norm().item<double>();
  const double difference = (wide(actual) - wide(expected)).norm().item<double>();
  if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
  return difference == 0 ? 0 : difference / norm;
}

testing::AssertionResult near(const at::Tensor& actual, const at::Tensor& expected, double bound) {
  if (largest_difference(actual, expected) <= bound) return testing::AssertionSuccess();
  if (!actual.defined() || actual.sizes() != expected.sizes()) {
    return testing::AssertionFailure()
           << "found "
           << (actual.defined() ? fmt::format("shape {}", fmt::join(actual.sizes(), "x"))
                                : "no tensor")
           << ", expected shape " << fmt::format("{}", fmt::join(expected.sizes(), "x"));
  }
  const at::Tensor found = wide(actual).flatten();
  const at::Tensor wanted = wide(expected).flatten();
  const at::Tensor difference =
      (found - wanted).abs().nan_to_num(std::numeric_limits<double>::infinity());
  const int64_t worst = difference.argmax().item<int64_t>();
  return testing::AssertionFailure()
         << difference.gt(bound).sum().item<int64_t>() << " of " << found.numel()
         << " elements are further than " << bound << " apart; the worst is element " << worst
         << " of a tensor " << fmt::format("{}", fmt::join(actual.sizes(), "x")) << ": found "
         << found[worst].item<double>() << ", expected " << wanted[worst].item<double>();
}

testing::AssertionResult same_bits(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.scalar_type() != expected.scalar_type() || actual.sizes() != expected.sizes())
    return testing::AssertionFailure() << "types or shapes differ";
  const at::Tensor a = actual.detach().cpu().contiguous();
  const at::Tensor b = expected.detach().cpu().contiguous();
  if (a.nbytes() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0)
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "bits differ; largest difference " << largest_difference(a, b);
}

testing::AssertionResult as_good_as(const at::Tensor& actual, const at::Tensor& plain,
                                    const at::Tensor& exact) {
  const double eps = plain.scalar_type() == at::kBFloat16 ? 0x1p-8
                     : plain.scalar_type() == at::kFloat  ? 0x1p-23
                                                          : 0x1p-52;
  const double largest = exact.numel() == 0 ? 0 : wide(exact).abs().max().item<double>();
  return near(actual, exact, 2 * largest_difference(plain, exact) + 4 * eps * largest);
}

testing::AssertionResult gradients_match(const TensorFunction& f,
                                         const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) {
    if (input.scalar_type() != at::kDouble) return testing::AssertionFailure() << "inputs in fp64";
    leaves.push_back(input.detach().clone().set_requires_grad(true));
  }
  const at::Tensor out = f(leaves);
  const at::Tensor weights = random_tensor(out.sizes(), 99, at::kDouble);
  const auto gradients =
      torch::autograd::grad({(out * weights).sum()}, leaves, {}, std::nullopt, false, true);
  const at::NoGradGuard no_grad;
  const double h = 1e-4;
  for (uint64_t direction = 0; direction < 8; ++direction) {
    double predicted = 0;
    std::vector<at::Tensor> ahead;
    std::vector<at::Tensor> behind;
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (!gradients[i].defined())
        return testing::AssertionFailure() << "input " << i << " has no gradient";
      at::Tensor v = random_tensor(leaves[i].sizes(), 1000 * (direction + 1) + i, at::kDouble);
      v /= std::max(1.0, v.norm().item<double>());
      predicted += (gradients[i] * v).sum().item<double>();
      ahead.push_back(leaves[i] + h * v);
      behind.push_back(leaves[i] - h * v);
    }
    const double measured = ((f(ahead) - f(behind)) * weights).sum().item<double>() / (2 * h);
    const double bound = 1e-7 * (1 + std::abs(predicted) + std::abs(measured));
    if (!(std::abs(predicted - measured) <= bound)) {
      return testing::AssertionFailure() << "direction " << direction << ": autograd gives "
                                         << predicted << ", central differences " << measured;
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace pendulum
