// Muon against singular value decompositions, its update against the textbook, and its place in the
// optimiser.
#include "optim/muon.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "optim/optimizer.h"

namespace pendulum {
namespace {

at::Tensor random(at::IntArrayRef shape, uint64_t key) {
  at::Tensor out = at::empty(shape, at::kFloat);
  fill_normal(out.data_ptr<float>(), out.numel(), key);
  return out;
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

// What the iteration does to one singular value of a matrix of norm 1.
at::Tensor iterated(at::Tensor x) {
  for (int i = 0; i < 5; ++i) x = x * (3.4445 + x.square() * (-4.7750 + 2.0315 * x.square()));
  return x;
}

// In fp64: singular vectors as they are, singular values through the scalar polynomial.
at::Tensor reference(const at::Tensor& matrices) {
  const auto [u, s, vh] = at::linalg_svd(matrices.to(at::kDouble), false);
  const at::Tensor norm = s.square().sum(-1, true).sqrt();
  return at::matmul(u * iterated(s / norm).unsqueeze(-2), vh);
}

const std::vector<std::vector<int64_t>> kShapes{
    {1, 1, 1},   {1, 1, 7},     {2, 7, 1},   {3, 5, 3}, {2, 31, 97},
    {1, 64, 64}, {2, 128, 512}, {1, 97, 13}, {1, 5, 3}, {1, 31, 97}};

TEST(Muon, OrthogonaliseActsOnSingularValuesAlone) {
  for (const auto& shape : kShapes) {
    const at::Tensor m = random(shape, 3);
    const at::Tensor want = reference(m);
    const double wide = largest(orthogonalise(m.to(at::kDouble)) - want);
    EXPECT_LE(wide, 1e-10) << shape[1] << "x" << shape[2];
    // The smallest singular values grow by 3.4445^5 = 485, and the rounding of 15 products with
    // them.
    const double narrow = largest(orthogonalise(m).to(at::kDouble) - want);
    EXPECT_LE(narrow, 485 * 15 * 6e-8) << shape[1] << "x" << shape[2];
  }
}

TEST(Muon, SingularValuesEndNearOne) {
  const at::Tensor x = at::logspace(-2, 0, 1000, 10.0, at::TensorOptions(at::kDouble));
  EXPECT_GE(iterated(x).min().item<double>(), 0.67);
  EXPECT_LE(iterated(x).max().item<double>(), 1.21);
  EXPECT_TRUE(at::equal(orthogonalise(at::zeros({2, 3, 4})), at::zeros({2, 3, 4})));
}

// Matrices of several shapes at once, two steps, so that momentum, decay and average show.
TEST(Muon, EqualsTheTextbookInDoublePrecision) {
  MuonSettings settings{.lr = 0.01,
                        .momentum = 0.9,
                        .rms = 0.3,
                        .weight_decay = 0.1,
                        .gradient_scale = 0.5,
                        .ema = 0.8};
  std::vector<MuonTensors> tensors;
  std::vector<at::Tensor> p, m, e;
  for (size_t i = 0; i < kShapes.size(); ++i) {
    const at::Tensor start = random(kShapes[i], 100 + i)[0];
    tensors.push_back({start.clone(), {}, at::zeros_like(start), start.clone()});
    p.push_back(start.to(at::kDouble));
    m.push_back(at::zeros_like(p.back()));
    e.push_back(p.back().clone());
  }
  for (uint64_t step = 0; step < 2; ++step) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].gradient = random(kShapes[i], 200 + 10 * step + i)[0];
      const at::Tensor g = tensors[i].gradient.to(at::kDouble) * settings.gradient_scale;
      m[i] = 0.9 * m[i] + 0.1 * g;
      const at::Tensor direction = reference((0.1 * g + 0.9 * m[i]).unsqueeze(0))[0];
      const double side = static_cast<double>(std::max(kShapes[i][1], kShapes[i][2]));
      p[i] = p[i] * (1 - 0.01 * 0.1) - 0.01 * 0.3 * std::sqrt(side) * direction;
      e[i] = 0.8 * e[i] + 0.2 * p[i];
    }
    muon_step(tensors, settings);
    settings.gradient_scale = 3;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    // Two directions, each off by what the first test allows, and the rounding of the parameter.
    const double side = static_cast<double>(std::max(kShapes[i][1], kShapes[i][2]));
    const double bound = 2 * 0.003 * std::sqrt(side) * 485 * 15 * 6e-8 + 8 * 6e-8 * largest(p[i]);
    EXPECT_LE(largest(tensors[i].parameter - p[i]), bound) << i;
    EXPECT_LE(largest(tensors[i].average - e[i]), bound) << i;
    EXPECT_LE(largest(tensors[i].momentum - m[i]), 8 * 6e-8 * largest(m[i])) << i;
  }
}

NamedTensors block_and_rest() {
  NamedTensors out;
  for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<int64_t>>>{
           {"blocks.0.ffn.weight", {6, 4}},
           {"blocks.0.ffn.bias", {6}},
           {"blocks.0.scale_shift_table", {1, 6, 4}},
           {"proj_out.weight", {3, 4}}}) {
    out.emplace_back(name, random(shape, out.size()).set_requires_grad(true));
  }
  return out;
}

void train_muon(Optimizer& optimizer, const NamedTensors& parameters, int from, int to) {
  for (int step = from; step < to; ++step) {
    for (const auto& [name, p] : parameters)
      at::Tensor(p).mutable_grad() = at::cos(p.detach() * (step + 1));
    optimizer.step(OptimConfig{}, 1e-3, 1);
  }
}

TEST(Muon, MovesTheBlocksMatricesAndAdamwTheRest) {
  const NamedTensors muon = block_and_rest(), adamw = block_and_rest();
  Optimizer first(muon, OptimizerKind::muon, true), second(adamw, OptimizerKind::adamw, true);
  train_muon(first, muon, 0, 3);
  train_muon(second, adamw, 0, 3);
  EXPECT_FALSE(at::equal(muon[0].second, adamw[0].second));
  EXPECT_FALSE(at::equal(first.average()[0].second, muon[0].second));
  for (size_t i = 1; i < muon.size(); ++i) EXPECT_TRUE(at::equal(muon[i].second, adamw[i].second));
  EXPECT_EQ(first.state().size(), 4u + 3u + 1u);  // no second moment of the matrix
}

TEST(Muon, GetsItsSettings) {
  OptimConfig config;
  config.muon_momentum = 0.7;
  config.muon_rms = 0.4;
  config.weight_decay = 0.3;
  config.ema = 0.6;
  const NamedTensors parameters = block_and_rest();
  const at::Tensor start = parameters[0].second.detach().clone();
  MuonTensors alone{start.clone(), {}, at::zeros_like(start), start.clone()};
  Optimizer optimizer(parameters, OptimizerKind::muon, true);
  for (const double scale : {0.5, 0.25}) {
    for (const auto& [name, p] : parameters) at::Tensor(p).mutable_grad() = at::sin(p.detach() * 9);
    alone.gradient = parameters[0].second.grad().clone();
    optimizer.step(config, 0.02, scale);
    muon_step({alone}, {.lr = 0.02,
                        .momentum = 0.7,
                        .rms = 0.4,
                        .weight_decay = 0.3,
                        .gradient_scale = scale,
                        .ema = 0.6});
  }
  EXPECT_TRUE(at::equal(parameters[0].second, alone.parameter));
  EXPECT_TRUE(at::equal(optimizer.average()[0].second, alone.average));
}

TEST(Muon, ContinuesBitForBitFromItsState) {
  const NamedTensors whole = block_and_rest(), half = block_and_rest(), copy = block_and_rest();
  Optimizer first(whole, OptimizerKind::muon, false), before(half, OptimizerKind::muon, false);
  train_muon(first, whole, 0, 6);
  train_muon(before, half, 0, 3);
  copy_by_name(copy, half);
  Optimizer after(copy, OptimizerKind::muon, false);
  after.load_state(before.state());
  train_muon(after, copy, 3, 6);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(whole[i].second, copy[i].second));
}

}  // namespace
}  // namespace pendulum
