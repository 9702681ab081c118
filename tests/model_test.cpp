// The video transformer: names and first values of its parameters, gradients, batch independence,
// types, loading.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "model/first_frame_name.h"
#include "model/parameters.h"
#include "model/video_transformer.h"
#include "small_wan.h"
#include "support.h"

namespace pendulum {
namespace {

struct Inputs {
  at::Tensor latents, time, text_states;
};

Inputs inputs_for(const WanConfig& config, int64_t batch, at::ScalarType type = at::kFloat) {
  return {random_tensor({batch, config.in_channels, 2, 4, 6}, 1, type),
          random_tensor({batch}, 2, type).sigmoid() * 1000,
          random_tensor({batch, 5, config.text_dim}, 3, type)};
}

at::Tensor run(const VideoTransformer& model, const Inputs& in) {
  return model.forward(in.latents, in.time, in.text_states);
}

// The last projection starts at zero and would hide everything.
void wake(VideoTransformer& model) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : model.parameters()) {
    if (name == "proj_out.weight")
      at::Tensor(parameter).copy_(0.1 * random_tensor(parameter.sizes(), 5));
  }
}

TEST(WanConfig, PublishedDimensions) {
  const auto count = [](const std::string& preset, int channels, int text_dim) {
    ModelConfig config;
    config.preset = preset;
    int64_t sum = 0;
    for (const ParameterSpec& spec : parameter_specs(wan_config(config, {channels, text_dim}))) {
      int64_t elements = 1;
      for (const int64_t size : spec.shape) elements *= size;
      sum += elements;
    }
    return sum;
  };
  // Counted in diffusers' models of the published configurations.
  EXPECT_EQ(count("wan-2.1-1.3b", 16, 4096), 1418996800);
  EXPECT_EQ(count("wan-2.1-14b", 16, 4096), 14288491584);
  EXPECT_EQ(count("wan-2.2-5b", 48, 4096), 4999787712);
}

TEST(WanConfig, FieldsLieOverThePreset) {
  ModelConfig model;
  model.layers = 3;
  model.patch = {1, 1, 1};
  model.cross_attn_norm = false;
  const WanConfig config = wan_config(model, {12, 384});
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.dim(), 128);
  EXPECT_EQ(config.patch, (std::array<int, 3>{1, 1, 1}));
  EXPECT_EQ(config.in_channels, 12);
  EXPECT_EQ(config.text_dim, 384);
  EXPECT_FALSE(config.cross_attn_norm);
}

TEST(WanConfig, MistakesNameTheKey) {
  const auto message = [](const auto& change) {
    ModelConfig model;
    change(model);
    try {
      wan_config(model, {4, 8});
    } catch (const ConfigError& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_NE(message([](ModelConfig& m) { m.preset = "wan-tinny"; }).find("wan-tiny"),
            std::string::npos);
  EXPECT_NE(message([](ModelConfig& m) { m.head_dim = 7; }).find("model.head_dim"),
            std::string::npos);
  EXPECT_NE(message([](ModelConfig& m) { m.head_dim = 4; }).find("model.head_dim"),
            std::string::npos);
  EXPECT_NE(message([](ModelConfig& m) { m.layers = -1; }).find("model.layers"), std::string::npos);
  EXPECT_NE(message([](ModelConfig& m) {
              m.patch = {1, 2};
            }).find("model.patch"),
            std::string::npos);
  EXPECT_NE(message([](ModelConfig& m) {
              m.patch = {1, 0, 2};
            }).find("model.patch"),
            std::string::npos);
}

TEST(VideoTransformer, FirstValuesAreFunctionsOfSeedAndName) {
  const VideoTransformer a(small_wan(), 7), b(small_wan(), 7), c(small_wan(), 8);
  std::set<std::string> names;
  for (size_t i = 0; i < a.parameters().size(); ++i) {
    const auto& [name, parameter] = a.parameters()[i];
    names.insert(name);
    EXPECT_TRUE(parameter.requires_grad() && parameter.is_leaf()) << name;
    EXPECT_TRUE(same_bits(parameter, b.parameters()[i].second)) << name;
    const bool is_constant = name.find("norm") != std::string::npos || name.starts_with("proj_out");
    EXPECT_EQ(at::equal(parameter, c.parameters()[i].second), is_constant) << name;
  }
  EXPECT_EQ(names.size(), a.parameters().size());
  // One value worked out by hand: element 5 of to_k's weight, uniform in +-1/sqrt(32).
  const auto find = [&](const std::string& name) {
    for (const auto& [n, parameter] : a.parameters())
      if (n == name) return parameter;
    return at::Tensor();
  };
  const std::string name = "blocks.1.attn1.to_k.weight";
  const double unit = uniform(draw(Purpose::weights, 7, hash_name(name), 5));
  EXPECT_EQ(find(name).flatten()[5].item<float>(),
            static_cast<float>((2 * unit - 1) / std::sqrt(32.0)));
  EXPECT_EQ(find("blocks.0.norm2.weight").sum().item<float>(), 32);
  // 6 * 32 normal numbers: the standard deviation is known to 1 / sqrt(2 * 192) = 5 %.
  EXPECT_LE(std::abs(find("blocks.0.scale_shift_table").std().item<double>() * std::sqrt(32.0) - 1),
            0.2);
}

TEST(VideoTransformer, StartsByPredictingZero) {
  const VideoTransformer model(small_wan(), 7);
  const at::Tensor out = run(model, inputs_for(model.config(), 2));
  EXPECT_EQ(out.sizes(), (at::IntArrayRef{2, 3, 2, 4, 6}));
  EXPECT_EQ(out.abs().max().item<float>(), 0);
}

TEST(VideoTransformer, GradientsMatchCentralDifferences) {
  VideoTransformer model(small_wan(), 7, at::kDouble);
  wake(model);
  const Inputs in = inputs_for(model.config(), 2, at::kDouble);
  const at::Tensor weights = random_tensor({2, 3, 2, 4, 6}, 9, at::kDouble);
  const auto loss = [&] { return (run(model, in) * weights).sum(); };
  loss().backward();
  const at::NoGradGuard no_grad;
  const double h = 1e-5;
  for (uint64_t direction = 1; direction <= 4; ++direction) {
    double predicted = 0;
    std::vector<at::Tensor> v;
    for (const auto& [name, parameter] : model.parameters()) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      v.push_back(random_tensor(parameter.sizes(), direction + hash_name(name), at::kDouble) * 0.1);
      predicted += (parameter.grad() * v.back()).sum().item<double>();
    }
    const auto move = [&](double by) {
      for (size_t i = 0; i < v.size(); ++i) at::Tensor(model.parameters()[i].second).add_(v[i], by);
    };
    move(h);
    const double ahead = loss().item<double>();
    move(-2 * h);
    const double behind = loss().item<double>();
    move(h);
    // Truncation h^2 f''' / 6 with third derivatives of some 1e3 along a step of norm 10; rounding
    // 1e-16 / h.
    EXPECT_LE(std::abs((ahead - behind) / (2 * h) - predicted), 1e-6 * (1 + std::abs(predicted)));
  }
}

// A sample's prediction must not depend on what it shares a batch with.
TEST(VideoTransformer, SamplesDoNotSeeEachOther) {
  VideoTransformer model(small_wan(), 7, at::kDouble);
  wake(model);
  const Inputs in = inputs_for(model.config(), 3, at::kDouble);
  const at::Tensor together = run(model, in);
  for (int64_t b = 0; b < 3; ++b) {
    const at::Tensor alone = run(model, {in.latents.narrow(0, b, 1), in.time.narrow(0, b, 1),
                                         in.text_states.narrow(0, b, 1)});
    EXPECT_TRUE(near(alone, together.narrow(0, b, 1), 1e-13));
  }
}

TEST(VideoTransformer, OneTimePerTokenEqualsOneTimePerSample) {
  VideoTransformer model(small_wan(), 7, at::kDouble);
  wake(model);
  Inputs in = inputs_for(model.config(), 2, at::kDouble);
  const at::Tensor per_sample = run(model, in);
  in.time = in.time.unsqueeze(1).expand({2, 2 * 2 * 3});
  EXPECT_TRUE(near(run(model, in), per_sample, 1e-12));
}

TEST(VideoTransformer, NarrowComputeFollowsWide) {
  VideoTransformer model(small_wan(), 7);
  wake(model);
  const Inputs in = inputs_for(model.config(), 2);
  const at::Tensor wide = run(model, in);
  model.set_compute(at::kBFloat16);
  const at::Tensor narrow = run(model, in);
  EXPECT_EQ(narrow.scalar_type(), at::kFloat);
  // Some 30 roundings of 2^-9 in a row, adding up like a random walk, with margin 3: a few percent
  // of the norm.
  EXPECT_LE(relative_difference(narrow, wide), 3 * std::sqrt(30.0) * 0x1p-9);
  narrow.square().sum().backward();
  for (const auto& [name, parameter] : model.parameters()) {
    ASSERT_TRUE(parameter.grad().defined()) << name;
    EXPECT_EQ(parameter.grad().scalar_type(), at::kFloat) << name;
    EXPECT_TRUE(parameter.grad().isfinite().all().item<bool>()) << name;
  }
}

// Weights are read where they are at each forward, also after an average was swapped in under the
// parameters.
TEST(VideoTransformer, SeesExchangedStorage) {
  VideoTransformer model(small_wan(), 7), other(small_wan(), 8);
  wake(model);
  wake(other);
  const at::NoGradGuard no_grad;
  const Inputs in = inputs_for(model.config(), 1);
  const at::Tensor expected = run(other, in);
  for (size_t i = 0; i < model.parameters().size(); ++i)
    at::Tensor(model.parameters()[i].second)
        .set_data(other.parameters()[i].second.detach().clone());
  EXPECT_TRUE(same_bits(run(model, in), expected));
}

TEST(VideoTransformer, LoadsOnlyWhatFits) {
  VideoTransformer model(small_wan(), 7), other(small_wan(), 8);
  std::map<std::string, at::Tensor> values(other.parameters().begin(), other.parameters().end());
  model.load(values);
  EXPECT_TRUE(same_bits(model.parameters()[1].second, other.parameters()[1].second));
  auto wrong = values;
  wrong.erase("proj_out.bias");
  EXPECT_THROW(model.load(wrong), DataError);
  wrong = values;
  wrong["blocks.2.norm2.bias"] = at::zeros({32});
  EXPECT_THROW(model.load(wrong), DataError);
  wrong = values;
  wrong["proj_out.bias"] = at::zeros({13});
  EXPECT_THROW(model.load(wrong), DataError);
}

TEST(FirstFrameName, IsReadAsItIsWritten) {
  for (const FirstFrame kind : {FirstFrame::none, FirstFrame::channels, FirstFrame::latent})
    EXPECT_EQ(first_frame_named(first_frame_name(kind)), kind);
  EXPECT_EQ(first_frame_name(FirstFrame::latent), "first-latent");  // as files of old have it
  EXPECT_EQ(first_frame_named("auto"), std::nullopt);
  EXPECT_THROW(first_frame_name(FirstFrame(3)), Error);
}

TEST(VideoTransformer, RefusesInputsThatDoNotFit) {
  const VideoTransformer model(small_wan(), 7);
  const Inputs in = inputs_for(model.config(), 2);
  EXPECT_THROW(model.forward(in.latents.narrow(3, 0, 3), in.time, in.text_states), Error);
  EXPECT_THROW(model.forward(in.latents, in.time.unsqueeze(1).expand({2, 5}), in.text_states),
               Error);
  EXPECT_THROW(model.forward(in.latents, in.time.narrow(0, 0, 1), in.text_states), Error);
  EXPECT_THROW(model.forward(in.latents, in.time, in.text_states.narrow(2, 0, 9)), Error);
}

TEST(Tokens, PatchesComeBack) {
  const at::Tensor latents = random_tensor({2, 3, 4, 6, 10}, 1);
  const std::array<int, 3> patch{2, 3, 2};
  const at::Tensor patches = to_patches(latents, patch);
  EXPECT_EQ(patches.sizes(), (at::IntArrayRef{2, 2 * 2 * 5, 3 * 12}));
  // proj_out's order has channels innermost.
  const at::Tensor reordered = patches.unflatten(-1, {3, 12}).transpose(-1, -2).flatten(-2);
  EXPECT_TRUE(same_bits(from_patches(reordered, {2, 2, 5}, patch), latents));
}

TEST(Tokens, AnglesAreThoseOfThePosition) {
  const RotaryTables tables = rotary_tables({2, 3, 5}, 22, at::TensorOptions(at::kDouble));
  // 22 elements: 6 for height and width each, 10 for time. Token (1, 2, 3), second pair of height.
  const double angle = 2 * std::pow(10000.0, -2.0 / 6);
  EXPECT_EQ(tables.cosine.sizes(), (at::IntArrayRef{30, 11}));
  EXPECT_EQ(tables.cosine[15 + 2 * 5 + 3][5 + 1].item<double>(),
            static_cast<float>(std::cos(angle)));
  EXPECT_EQ(tables.sine[15 + 2 * 5 + 3][5 + 1].item<double>(), static_cast<float>(std::sin(angle)));
}

}  // namespace
}  // namespace pendulum
