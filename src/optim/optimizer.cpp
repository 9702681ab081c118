// The optimiser over named tensors; AdamW's arithmetic is the fused kernel's.
#include "optim/optimizer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <regex>

#include "core/error.h"
#include "ops/adamw.h"
#include "optim/muon.h"

namespace pendulum {
namespace {

NamedTensors zeros_like(const NamedTensors& tensors) {
  NamedTensors out;
  for (const auto& [name, tensor] : tensors)
    out.emplace_back(name, at::zeros_like(tensor.detach()));
  return out;
}

// Matrices and patch kernels decay. Biases, norm weights and the (1, 6, D) modulation tables do
// not: pulling them to zero changes what the network computes at rest instead of how large its
// weights grow.
bool decays(const std::string& name, const at::Tensor& parameter) {
  return parameter.dim() >= 2 && name.find("scale_shift_table") == std::string::npos;
}

// What Muon is for: matrices between hidden states. What reads inputs or writes outputs has rows or
// columns of its own scale.
bool is_hidden_matrix(const std::string& name, const at::Tensor& parameter) {
  return parameter.dim() == 2 && name.starts_with("blocks.");
}

}  // namespace

OptimizerKind parse_optimizer_kind(const std::string& name) {
  check(name == "adamw" || name == "muon", "optim.kind is adamw or muon, not ", name);
  return name == "muon" ? OptimizerKind::muon : OptimizerKind::adamw;
}

NamedTensors select_trainable(const NamedTensors& parameters, const std::string& pattern) {
  NamedTensors selected;
  try {
    const std::regex expression(pattern);
    for (const auto& [name, parameter] : parameters) {
      const bool is_trained = std::regex_match(name, expression);
      at::Tensor(parameter).set_requires_grad(is_trained);
      if (is_trained) selected.emplace_back(name, parameter);
    }
  } catch (const std::regex_error& e) {
    throw ConfigError(
        text("model.trainable: \"", pattern, "\" is no regular expression: ", e.what()));
  }
  if (selected.empty()) {
    throw ConfigError(text("model.trainable: \"", pattern, "\" matches none of the ",
                           parameters.size(), " parameters, the first of which is ",
                           parameters.front().first));
  }
  return selected;
}

void copy_by_name(const NamedTensors& to, const NamedTensors& from) {
  const at::NoGradGuard no_grad;
  const std::map<std::string, at::Tensor> source(from.begin(), from.end());
  for (const auto& [name, tensor] : to) {
    const auto found = source.find(name);
    if (found == source.end())
      throw DataError(text("tensor ", name, " is missing from the saved state"));
    if (found->second.sizes() != tensor.sizes()) {
      throw DataError(text("tensor ", name, " has shape ", found->second.sizes(),
                           " in the saved state, here ", tensor.sizes()));
    }
    at::Tensor(tensor).detach().copy_(found->second);
  }
}

Optimizer::Optimizer(NamedTensors trained, OptimizerKind kind, bool has_average)
    : trained_(std::move(trained)),
      first_moment_(zeros_like(trained_)),
      has_average_(has_average),
      steps_(at::zeros({}, at::kLong)) {
  for (const auto& [name, parameter] : trained_) {
    check(parameter.scalar_type() == at::kFloat, "master weights are fp32: ", name);
    by_muon_.push_back(kind == OptimizerKind::muon && is_hidden_matrix(name, parameter));
    second_moment_.emplace_back(
        name, by_muon_.back() ? at::Tensor() : at::zeros_like(parameter.detach()));
    if (has_average) average_.emplace_back(name, parameter.detach().clone());
  }
}

double Optimizer::gradient_norm() const {
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : trained_) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return std::sqrt(sum_of_squares(gradients));
}

void Optimizer::step(const OptimConfig& config, double lr, double scale) {
  const int64_t step = steps_.item<int64_t>() + 1;
  steps_.fill_(step);
  std::vector<AdamwTensors> tensors;
  std::vector<MuonTensors> matrices;
  for (size_t i = 0; i < trained_.size(); ++i) {
    const auto& [name, parameter] = trained_[i];
    if (!parameter.grad().defined()) continue;
    const at::Tensor average = average_.empty() ? at::Tensor() : average_[i].second;
    if (by_muon_[i]) {
      matrices.push_back({parameter.detach(), parameter.grad(), first_moment_[i].second, average});
      continue;
    }
    tensors.push_back({parameter.detach(), parameter.grad(), first_moment_[i].second,
                       second_moment_[i].second, average, decays(name, parameter)});
  }
  adamw_step(tensors, {.lr = lr,
                       .beta1 = config.betas[0],
                       .beta2 = config.betas[1],
                       .eps = config.eps,
                       .weight_decay = config.weight_decay,
                       .gradient_scale = scale,
                       .ema = config.ema,
                       .step = step});
  muon_step(matrices, {.lr = lr,
                       .momentum = config.muon_momentum,
                       .rms = config.muon_rms,
                       .weight_decay = config.weight_decay,
                       .gradient_scale = scale,
                       .ema = config.ema});
}

void Optimizer::zero_gradients() {
  for (auto& [name, parameter] : trained_) parameter.mutable_grad().reset();
}

NamedTensors Optimizer::state() const {
  NamedTensors out;
  for (const auto& [name, tensor] : first_moment_) out.emplace_back("m." + name, tensor);
  for (const auto& [name, tensor] : second_moment_) {
    if (tensor.defined()) out.emplace_back("v." + name, tensor);
  }
  out.emplace_back("steps", steps_);
  return out;
}

void Optimizer::load_state(const NamedTensors& saved) { copy_by_name(state(), saved); }
void Optimizer::load_average(const NamedTensors& saved) { copy_by_name(average_, saved); }

AverageScope::AverageScope(const Optimizer& optimizer) : optimizer_(optimizer) {
  const NamedTensors& average = optimizer_.average();
  for (size_t i = 0; i < average.size(); ++i) {
    at::Tensor parameter = optimizer_.parameters()[i].second;
    trained_.push_back(parameter.detach());
    parameter.set_data(average[i].second);
  }
}

AverageScope::~AverageScope() {
  for (size_t i = 0; i < trained_.size(); ++i) {
    at::Tensor parameter = optimizer_.parameters()[i].second;
    parameter.set_data(trained_[i]);
  }
}

}  // namespace pendulum
