// Muon on batches of matrices of one shape.
#include "optim/muon.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr int kIterations = 5;
constexpr double kLinear = 3.4445, kCubic = -4.7750, kQuintic = 2.0315;
constexpr int64_t kBatchElements = 1 << 24;  // bounds the memory beside the training state

// One batch: matrices of one shape.
void update(const std::vector<const MuonTensors*>& batch, const MuonSettings& settings) {
  std::vector<at::Tensor> directions;
  for (const MuonTensors* t : batch) {
    const at::Tensor gradient = t->gradient * ((1 - settings.momentum) * settings.gradient_scale);
    t->momentum.mul_(settings.momentum).add_(gradient);
    directions.push_back(gradient + t->momentum * settings.momentum);
  }
  const at::Tensor orthogonal = orthogonalise(at::stack(directions));
  const at::Tensor& first = batch.front()->parameter;
  const double length =
      settings.lr * settings.rms * std::sqrt(std::max(first.size(0), first.size(1)));
  for (size_t i = 0; i < batch.size(); ++i) {
    const MuonTensors& t = *batch[i];
    t.parameter.mul_(1 - settings.lr * settings.weight_decay)
        .sub_(orthogonal[static_cast<int64_t>(i)], length);
    if (t.average.defined()) t.average.lerp_(t.parameter, 1 - settings.ema);
  }
}

}  // namespace

at::Tensor orthogonalise(const at::Tensor& matrices) {
  check(matrices.dim() == 3, "a batch of matrices, found ", matrices.sizes());
  const bool is_tall = matrices.size(1) > matrices.size(2);  // the smaller Gram matrix is cheaper
  at::Tensor x = is_tall ? matrices.mT() : matrices;
  const at::ScalarType type = matrices.scalar_type();
  x = x / (x.square().sum({1, 2}, true).sqrt() + 1e-12);  // no singular value above 1
  if (x.is_cuda()) x = x.to(at::kBFloat16);
  for (int i = 0; i < kIterations; ++i) {
    const at::Tensor gram = at::bmm(x, x.mT());
    x = at::baddbmm(x, at::baddbmm(gram, gram, gram, kCubic, kQuintic), x, kLinear, 1);
  }
  return (is_tall ? x.mT() : x).to(type);
}

void muon_step(const std::vector<MuonTensors>& tensors, const MuonSettings& settings) {
  const at::NoGradGuard no_grad;
  std::map<std::pair<int64_t, int64_t>, std::vector<const MuonTensors*>> by_shape;
  for (const MuonTensors& t : tensors) {
    check(t.parameter.dim() == 2 && t.gradient.sizes() == t.parameter.sizes(),
          "matrices with gradients of their shape, found ", t.parameter.sizes(), " and ",
          t.gradient.sizes());
    by_shape[{t.parameter.size(0), t.parameter.size(1)}].push_back(&t);
  }
  for (const auto& [shape, all] : by_shape) {
    const auto at_once = static_cast<size_t>(
        std::max<int64_t>(1, kBatchElements / std::max<int64_t>(1, shape.first * shape.second)));
    for (size_t begin = 0; begin < all.size(); begin += at_once) {
      const size_t end = std::min(all.size(), begin + at_once);
      update({all.begin() + static_cast<std::ptrdiff_t>(begin),
              all.begin() + static_cast<std::ptrdiff_t>(end)},
             settings);
    }
  }
}

}  // namespace pendulum
