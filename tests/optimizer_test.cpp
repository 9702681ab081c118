// optim/: the textbook update, moments in 8 bits, decay groups, the mask, the average and where it
// is, and the schedule.
#include "optim/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/error.h"
#include "ops/random_tensor.h"
#include "optim/schedule.h"
#include "safetensors/safetensors.h"

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

NamedTensors random_parameters(
    const std::vector<std::pair<std::string, std::vector<int64_t>>>& shapes) {
  NamedTensors out;
  for (const auto& [name, shape] : shapes)
    out.emplace_back(name, random_tensor(shape, out.size()).set_requires_grad(true));
  return out;
}

// What each kind treats in its own way: hidden matrices, others, vectors, and what is not whole
// blocks of 256; of one gradients are missing in every other step.
NamedTensors mixed_parameters() {
  return random_parameters({{"blocks.0.ffn.weight", {70, 67}},
                            {"blocks.0.ffn.bias", {5000}},
                            {"proj_out.weight", {300, 256}},
                            {"small.weight", {3, 5}},
                            {"now_and_then.weight", {65, 64}}});
}

void train(Optimizer& optimizer, const NamedTensors& parameters, int from, int to) {
  OptimConfig config;
  config.ema = 0.9;
  config.weight_decay = 0.1;
  for (int step = from; step < to; ++step) {
    for (const auto& [name, p] : parameters)
      at::Tensor(p).mutable_grad() = at::sin(p.detach() * (1e3 * (step + 1)));
    if (step % 2 == 1) at::Tensor(parameters.back().second).mutable_grad().reset();
    optimizer.step(config, 1e-2, 0.5);
  }
}

void expect_equal(const NamedTensors& found, const NamedTensors& want) {
  ASSERT_EQ(found.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(found[i].first, want[i].first);
    EXPECT_EQ(found[i].second.scalar_type(), want[i].second.scalar_type()) << want[i].first;
    EXPECT_TRUE(at::equal(found[i].second, want[i].second)) << want[i].first;
  }
}

TEST(EightBit, KeepsTwoBytesANumberOfLargeMatrices) {
  const NamedTensors parameters = random_parameters({{"large.weight", {1000, 1000}},
                                                     {"least.weight", {64, 64}},
                                                     {"less.weight", {63, 65}},
                                                     {"bias", {5000}}});
  const Optimizer optimizer(parameters, OptimizerKind::adamw8bit, false);
  std::map<std::string, int64_t> bytes;
  for (const auto& [name, tensor] : optimizer.state())
    bytes[name.substr(name.find('.') + 1)] += static_cast<int64_t>(tensor.nbytes());
  EXPECT_LE(bytes["large.weight"], 2.1 * 1000 * 1000);
  EXPECT_EQ(bytes["least.weight"], 2 * (4096 + 4 * 16));
  EXPECT_EQ(bytes["less.weight"], 8 * 63 * 65);
  EXPECT_EQ(bytes["bias"], 8 * 5000);
}

// Half the mean square of x w - y after steps on 64 rows at a time; noise in y leaves 0.005 of it.
double least_squares(OptimizerKind kind, int steps) {
  const at::Tensor x = random_tensor({1024, 64}, 1);
  const at::Tensor y =
      at::mm(x, 0.3 * random_tensor({64, 96}, 2)) + 0.1 * random_tensor({1024, 96}, 3);
  at::Tensor w = at::zeros({64, 96}).set_requires_grad(true);
  Optimizer optimizer({{"w", w}}, kind, false);
  OptimConfig config;
  config.weight_decay = 0;
  for (int step = 0; step < steps; ++step) {
    const int64_t row = step % 16 * 64;
    const at::Tensor rows = x.slice(0, row, row + 64);
    const at::Tensor residual = at::mm(rows, w.detach()) - y.slice(0, row, row + 64);
    w.mutable_grad() = at::mm(rows.t(), residual) / 64;
    optimizer.step(config, 0.02, 1);
  }
  return (at::mm(x, w.detach()) - y).square().mean().item<double>() / 2;
}

TEST(EightBit, LearnsAsWithMomentsInFp32) {
  const double want = least_squares(OptimizerKind::adamw, 200);
  EXPECT_LE(want, 0.003 * least_squares(OptimizerKind::adamw, 0));
  EXPECT_NEAR(least_squares(OptimizerKind::adamw8bit, 200) / want, 1, 0.01);
}

TEST(EightBit, IsTheSameForAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  NamedTensors parameters[2], state[2];
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    NamedTensors& mine = parameters[threads - 1];
    mine = random_parameters({{"a.weight", {300, 701}}, {"b.weight", {70, 67}}});
    Optimizer optimizer(mine, OptimizerKind::adamw8bit, true);
    train(optimizer, mine, 0, 3);
    state[threads - 1] = optimizer.state();
  }
  at::set_num_threads(before);
  expect_equal(parameters[1], parameters[0]);
  expect_equal(state[1], state[0]);
}

TEST(EightBit, ContinuesBitForBitFromAFile) {
  const NamedTensors whole = mixed_parameters(), half = mixed_parameters();
  Optimizer first(whole, OptimizerKind::adamw8bit, false);
  train(first, whole, 0, 10);
  Optimizer before(half, OptimizerKind::adamw8bit, false);
  train(before, half, 0, 5);

  const std::string path = testing::TempDir() + "eight_bit_state.safetensors";
  write_safetensors(path, before.state());
  const auto read = read_safetensors(path);
  EXPECT_EQ(read.at("m.proj_out.weight").scalar_type(), at::kByte);
  EXPECT_EQ(read.at("v_scale.proj_out.weight").numel(), 300);
  EXPECT_EQ(read.at("m.blocks.0.ffn.bias").scalar_type(), at::kFloat);
  const NamedTensors copy = mixed_parameters();
  copy_by_name(copy, half);
  Optimizer after(copy, OptimizerKind::adamw8bit, false);
  after.load_state({read.begin(), read.end()});
  train(after, copy, 5, 10);
  expect_equal(copy, whole);
  expect_equal(after.state(), first.state());
}

TEST(EightBit, TakesNoOtherKindsState) {
  const NamedTensors parameters = mixed_parameters();
  Optimizer bytes(parameters, OptimizerKind::adamw8bit, false);
  Optimizer numbers(parameters, OptimizerKind::adamw, false);
  EXPECT_THROW(bytes.load_state(numbers.state()), DataError);
  EXPECT_THROW(numbers.load_state(bytes.state()), DataError);
  NamedTensors misshapen = bytes.state();
  for (auto& [name, tensor] : misshapen) {
    if (name == "v_scale.proj_out.weight") tensor = tensor.slice(0, 0, 299);
  }
  EXPECT_THROW(bytes.load_state(misshapen), DataError);
}

TEST(HostAverage, EqualsTheOneBesideTheParametersToTheBit) {
  for (const auto kind : {OptimizerKind::adamw, OptimizerKind::adamw8bit, OptimizerKind::muon}) {
    NamedTensors here = mixed_parameters(), there = mixed_parameters();
    // Longer than a piece that is brought at a time.
    for (NamedTensors* all : {&here, &there}) {
      if (kind != OptimizerKind::adamw) continue;
      all->emplace(all->begin(), "long.weight",
                   random_tensor({2049, 2049}, 9).set_requires_grad(true));
    }
    Optimizer beside(here, kind, true), host(there, kind, true, AverageMemory::host);
    expect_equal(host.average(), beside.average());
    train(beside, here, 0, 3);
    train(host, there, 0, 3);
    expect_equal(there, here);
    expect_equal(host.state(), beside.state());
    expect_equal(host.average(), beside.average());
    for (size_t i = 0; i < here.size(); ++i)
      EXPECT_FALSE(at::equal(host.average()[i].second, there[i].second)) << there[i].first;
  }
}

TEST(HostAverage, IsLentByCopies) {
  const NamedTensors parameters = mixed_parameters();
  Optimizer optimizer(parameters, OptimizerKind::adamw, true, AverageMemory::host);
  train(optimizer, parameters, 0, 3);
  NamedTensors trained, average;
  for (const auto& [name, p] : parameters) trained.emplace_back(name, p.detach().clone());
  for (const auto& [name, a] : optimizer.average()) average.emplace_back(name, a.clone());
  const void* place = parameters[0].second.const_data_ptr();
  {
    const AverageScope scope(optimizer);
    expect_equal(parameters, average);
    EXPECT_EQ(parameters[0].second.const_data_ptr(), place);
    EXPECT_NE(optimizer.average()[0].second.const_data_ptr(), place);
  }
  expect_equal(parameters, trained);
  expect_equal(optimizer.average(), average);
  EXPECT_TRUE(parameters[0].second.requires_grad());
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
