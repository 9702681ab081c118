// optim/: the textbook update, decay groups, the mask, the average, and the schedule.
#include "optim/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "optim/schedule.h"

namespace pendulum {
namespace {

NamedTensors two_parameters() {
  NamedTensors out;
  out.emplace_back("a.weight", at::linspace(-1, 1, 35).view({5, 7}).set_requires_grad(true));
  out.emplace_back("a.bias", at::linspace(2, 3, 13).set_requires_grad(true));
  return out;
}

TEST(Optimizer, EqualsTheTextbookInDoublePrecision) {
  const NamedTensors parameters = two_parameters();
  Optimizer optimizer(parameters, OptimizerKind::adamw, true);
  OptimConfig config;
  config.weight_decay = 0.1;
  config.ema = 0.9;
  struct Expected {
    at::Tensor p, m, v, e;
  };
  std::vector<Expected> want;
  for (const auto& [name, p] : parameters) {
    const at::Tensor d = p.detach().to(at::kDouble);
    want.push_back({d.clone(), at::zeros_like(d), at::zeros_like(d), d.clone()});
  }
  for (int step = 1; step <= 20; ++step) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      at::Tensor p = parameters[i].second;
      p.mutable_grad() = at::sin(p.detach() * step);
      auto& w = want[i];
      const at::Tensor g = p.grad().to(at::kDouble) * 0.5;
      w.m = 0.9 * w.m + 0.1 * g;
      w.v = 0.99 * w.v + 0.01 * g * g;
      const at::Tensor update =
          (w.m / (1 - std::pow(0.9, step))) / ((w.v / (1 - std::pow(0.99, step))).sqrt() + 1e-8);
      w.p = w.p * (1 - 1e-2 * (i == 0 ? 0.1 : 0.0)) - 1e-2 * update;
      w.e = 0.9 * w.e + 0.1 * w.p;
    }
    optimizer.step(config, 1e-2, 0.5);
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    // Twenty fp32 updates of relative size 1e-2: rounding stays within a few eps of the parameter
    // each.
    const double bound = 20 * 4 * 1.2e-7 * want[i].p.abs().max().item<double>() + 1e-6;
    EXPECT_LE((parameters[i].second.detach() - want[i].p).abs().max().item<double>(), bound);
    EXPECT_LE((optimizer.average()[i].second - want[i].e).abs().max().item<double>(), bound);
  }
}

TEST(Optimizer, HoldsOnlyWhatTrains) {
  const NamedTensors parameters = two_parameters();
  const NamedTensors trained = select_trainable(parameters, ".*bias");
  ASSERT_EQ(trained.size(), 1u);
  EXPECT_FALSE(parameters[0].second.requires_grad());
  EXPECT_EQ(Optimizer(trained, OptimizerKind::adamw, true).state().size(), 3u);  // m, v, steps
  EXPECT_THROW(select_trainable(parameters, "nothing"), ConfigError);
  EXPECT_THROW(select_trainable(parameters, "("), ConfigError);
}

TEST(Optimizer, StateRoundTripContinuesBitForBit) {
  OptimConfig config;
  const auto run = [&](Optimizer& optimizer, const NamedTensors& parameters, int from, int to) {
    for (int step = from; step < to; ++step) {
      for (const auto& [name, p] : parameters)
        at::Tensor(p).mutable_grad() = at::cos(p.detach() * (step + 1));
      optimizer.step(config, 1e-3, 1);
    }
  };
  const NamedTensors whole = two_parameters();
  Optimizer first(whole, OptimizerKind::adamw, false);
  run(first, whole, 0, 10);

  const NamedTensors half = two_parameters();
  Optimizer before(half, OptimizerKind::adamw, false);
  run(before, half, 0, 5);
  NamedTensors copy = two_parameters();
  copy_by_name(copy, half);
  Optimizer after(copy, OptimizerKind::adamw, false);
  after.load_state(before.state());
  run(after, copy, 5, 10);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(whole[i].second, copy[i].second));
}

TEST(Optimizer, AverageScopeLendsTheAverageAndGivesBack) {
  const NamedTensors parameters = two_parameters();
  Optimizer optimizer(parameters, OptimizerKind::adamw, true);
  for (const auto& [name, p] : parameters) at::Tensor(p).mutable_grad() = at::ones_like(p);
  optimizer.step(OptimConfig{}, 0.1, 1);
  const at::Tensor trained = parameters[0].second.detach().clone();
  {
    const AverageScope scope(optimizer);
    EXPECT_TRUE(at::equal(parameters[0].second, optimizer.average()[0].second));
    EXPECT_FALSE(at::equal(parameters[0].second, trained));
  }
  EXPECT_TRUE(at::equal(parameters[0].second, trained));
}

TEST(Optimizer, GradientNormIsTheNormOverAll) {
  const NamedTensors parameters = two_parameters();
  for (const auto& [name, p] : parameters) at::Tensor(p).mutable_grad() = at::full_like(p, 2);
  EXPECT_NEAR(Optimizer(parameters, OptimizerKind::adamw, false).gradient_norm(),
              2 * std::sqrt(35 + 13), 1e-9);
}

TEST(Schedule, WarmsUpThenDecays) {
  OptimConfig config;
  config.lr = 1;
  config.warmup = {3};
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 100), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(config, 3, 100), 1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 99, 100), 1);
  config.schedule = "cosine";
  config.final_lr = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate(config, 3, 100), 1);
  EXPECT_NEAR(learning_rate(config, 99, 100), 0.1, 1e-12);
  config.schedule = "linear";
  EXPECT_NEAR(learning_rate(config, 51, 100), 0.55, 1e-12);
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 1), 0.25);
}

}  // namespace
}  // namespace pendulum
