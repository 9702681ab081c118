// The optimiser over named tensors; AdamW's arithmetic is the fused kernel's.
#include "optim/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <map>
#include <regex>

#include "core/error.h"
#include "model/hidden_matrix.h"
#include "ops/adamw.h"
#include "ops/host_average.h"
#include "optim/muon.h"

namespace pendulum {
namespace {

// Matrices and patch kernels decay. Biases, norm weights and the (1, 6, D) modulation tables do
// not: pulling them to zero changes what the network computes at rest instead of how large its
// weights grow.
bool decays(const std::string& name, const at::Tensor& parameter) {
  return parameter.dim() >= 2 && name.find("scale_shift_table") == std::string::npos;
}

// Types are not converted on the way: what is saved as bytes means something else as numbers.
void check_types(const NamedTensors& to, const NamedTensors& from) {
  const std::map<std::string, at::Tensor> source(from.begin(), from.end());
  for (const auto& [name, tensor] : to) {
    const auto found = source.find(name);
    if (found == source.end() || found->second.scalar_type() == tensor.scalar_type()) continue;
    throw DataError(text("tensor ", name, " is ", found->second.scalar_type(),
                         " in the saved state, here ", tensor.scalar_type(),
                         ": it is another optim.kind's"));
  }
}

}  // namespace

OptimizerKind parse_optimizer_kind(const std::string& name) {
  if (name == "adamw8bit") return OptimizerKind::adamw8bit;
  if (name == "muon") return OptimizerKind::muon;
  check(name == "adamw", "optim.kind is adamw, adamw8bit or muon, not ", name);
  return OptimizerKind::adamw;
}

AverageMemory parse_average_memory(const std::string& name) {
  if (name == "host") return AverageMemory::host;
  check(name == "device", "optim.ema_memory is device or host, not ", name);
  return AverageMemory::device;
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

Optimizer::Optimizer(NamedTensors trained, OptimizerKind kind, bool has_average,
                     AverageMemory average_memory)
    : trained_(std::move(trained)),
      has_average_(has_average),
      average_memory_(average_memory),
      steps_(at::zeros({}, at::kLong)) {
  for (const auto& [name, parameter] : trained_) {
    check(parameter.scalar_type() == at::kFloat, "master weights are fp32: ", name);
    moments_.push_back(fresh_moments(kind, name, parameter));
    if (!has_average) continue;
    const at::Device place =
        average_memory == AverageMemory::host ? at::Device(at::kCPU) : parameter.device();
    average_.emplace_back(name, parameter.detach().to(place, at::kFloat, false, /*copy=*/true));
  }
}

Optimizer::Moments Optimizer::fresh_moments(OptimizerKind kind, const std::string& name,
                                            const at::Tensor& parameter) {
  const at::Tensor values = parameter.detach();
  if (kind == OptimizerKind::muon && is_hidden_matrix(name, parameter.sizes()))
    return {at::zeros_like(values), {}, {}, {}};
  if (kind != OptimizerKind::adamw8bit || !has_8bit_moments(parameter.sizes()))
    return {at::zeros_like(values), at::zeros_like(values), {}, {}};
  const auto bytes = values.options().dtype(at::kByte);
  const int64_t blocks = quantisation_blocks(values.numel());
  return {at::full(values.sizes(), zero_of_first_moments(), bytes),
          at::zeros(values.sizes(), bytes), at::zeros({blocks}, values.options()),
          at::zeros({blocks}, values.options())};
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
    const bool is_beside = !average_.empty() && average_memory_ == AverageMemory::device;
    const at::Tensor average = is_beside ? average_[i].second : at::Tensor();
    const Moments& m = moments_[i];
    if (!m.second.defined()) {
      matrices.push_back({parameter.detach(), parameter.grad(), m.first, average});
      continue;
    }
    tensors.push_back({parameter.detach(), parameter.grad(), m.first, m.second, average,
                       decays(name, parameter), m.first_scale, m.second_scale});
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
  if (average_memory_ == AverageMemory::host && has_average_) average_on_host(config.ema);
}

// Of the parameters that were updated, each as beside its parameter.
void Optimizer::average_on_host(double ema) {
  std::vector<at::Tensor> averages, parameters;
  for (size_t i = 0; i < trained_.size(); ++i) {
    const at::Tensor &parameter = trained_[i].second, &average = average_[i].second;
    if (!parameter.grad().defined()) continue;
    if (!moments_[i].second.defined()) {
      average.lerp_(parameter.detach().cpu(), 1 - ema);  // as muon_step
      continue;
    }
    averages.push_back(average);
    parameters.push_back(parameter.detach());
  }
  move_host_averages(averages, parameters, ema);
}

void Optimizer::zero_gradients() {
  for (auto& [name, parameter] : trained_) parameter.mutable_grad().reset();
}

NamedTensors Optimizer::state() const {
  NamedTensors out;
  const auto add = [&](const std::string& prefix, at::Tensor Moments::*part) {
    for (size_t i = 0; i < trained_.size(); ++i) {
      const at::Tensor& tensor = moments_[i].*part;
      if (tensor.defined()) out.emplace_back(prefix + trained_[i].first, tensor);
    }
  };
  add("m.", &Moments::first);
  add("m_scale.", &Moments::first_scale);
  add("v.", &Moments::second);
  add("v_scale.", &Moments::second_scale);
  out.emplace_back("steps", steps_);
  return out;
}

void Optimizer::load_state(const NamedTensors& saved) {
  const NamedTensors mine = state();
  check_types(mine, saved);
  copy_by_name(mine, saved);
}
void Optimizer::load_average(const NamedTensors& saved) { copy_by_name(average_, saved); }

AverageScope::AverageScope(const Optimizer& optimizer) : optimizer_(optimizer) {
  const NamedTensors& average = optimizer_.average();
  for (size_t i = 0; i < average.size(); ++i) {
    at::Tensor parameter = optimizer_.parameters()[i].second;
    if (optimizer_.average_memory() == AverageMemory::device) {
      trained_.push_back(parameter.detach());
      parameter.set_data(average[i].second);
    } else {
      trained_.push_back(parameter.detach().to(at::kCPU, at::kFloat, false, /*copy=*/true));
      parameter.detach().copy_(average[i].second);
    }
  }
}

AverageScope::~AverageScope() {
  for (size_t i = 0; i < trained_.size(); ++i) {
    at::Tensor parameter = optimizer_.parameters()[i].second;
    if (optimizer_.average_memory() == AverageMemory::device) {
      parameter.set_data(trained_[i]);
    } else {
      parameter.detach().copy_(trained_[i]);
    }
  }
}

}  // namespace pendulum
