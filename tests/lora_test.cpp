// Adapters: what they add, how their gradients follow from the whole weight's, merging, names.
#include "model/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "error_message.h"
#include "model/video_transformer.h"
#include "small_wan.h"
#include "support.h"

namespace pendulum {
namespace {

const LoraConfig kAllLayers{.rank = 4, .alpha = 6};

at::Tensor output_of(const VideoTransformer& model, at::ScalarType type = at::kDouble) {
  return model.forward(random_tensor({2, 3, 2, 4, 6}, 1, type),
                       random_tensor({2}, 2, type).sigmoid() * 1000,
                       random_tensor({2, 5, 10}, 3, type));
}

// Every parameter random, so that nothing is hidden behind a zero.
VideoTransformer awake(const LoraConfig& lora, at::ScalarType type = at::kDouble) {
  VideoTransformer model(small_wan(), 7, type);
  randomise(model.parameters(), 7);
  if (lora.rank > 0) {
    model.add_adapters(lora, 8);
    randomise(model.trainable(), 9);
  }
  return model;
}

std::map<std::string, at::Tensor> by_name(const NamedTensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

TEST(Lora, FreshAdaptersChangeNothing) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    VideoTransformer model(small_wan(), 7, type);
    randomise(model.parameters(), 7);
    const at::Tensor before = output_of(model, type);
    model.add_adapters(kAllLayers, 8);
    EXPECT_TRUE(output_of(model, type).equal(before));
  }
}

TEST(Lora, AddsScaledProductToTheWeight) {
  for (const std::vector<std::string>& targets :
       {LoraConfig{}.targets, {"to_k"}, {"attn1.to_q", "attn2.to_v"}, {"ffn.net.2"}}) {
    VideoTransformer model = awake({.rank = 4, .alpha = 6, .targets = targets});
    const at::Tensor apart = output_of(model);
    model.merge_adapters();
    EXPECT_FALSE(model.has_adapters());
    EXPECT_LE(relative_difference(output_of(model), apart), 1e-12) << targets.front();
    EXPECT_GE(relative_difference(output_of(awake({})), apart), 1e-2)
        << "the adapters do something";
  }
}

// W' = W + s B A: dA = s B^T dW' and dB = s dW' A^T.
TEST(Lora, GradientsAreThoseOfTheMergedWeight) {
  VideoTransformer model = awake(kAllLayers), merged = awake(kAllLayers);
  output_of(model).square().sum().backward();
  const auto adapters = by_name(merged.trainable());
  merged.merge_adapters();
  for (const auto& [name, parameter] : merged.parameters())
    at::Tensor(parameter).set_requires_grad(true);
  output_of(merged).square().sum().backward();
  const auto whole = by_name(merged.parameters());
  const auto found = by_name(model.trainable());
  for (const std::string& layer : adapted_layers(small_wan(), kAllLayers.targets)) {
    const at::Tensor gradient = whole.at(layer + ".weight").grad();
    const at::Tensor down = adapters.at(adapter_down(layer)).detach();
    const at::Tensor up = adapters.at(adapter_up(layer)).detach();
    const at::Tensor want_down = 1.5 * up.t().mm(gradient), want_up = 1.5 * gradient.mm(down.t());
    EXPECT_LE(relative_difference(found.at(adapter_down(layer)).grad(), want_down), 1e-11) << layer;
    EXPECT_LE(relative_difference(found.at(adapter_up(layer)).grad(), want_up), 1e-11) << layer;
  }
  for (const auto& [name, parameter] : model.base()) {
    EXPECT_FALSE(parameter.requires_grad()) << name;
    EXPECT_FALSE(parameter.grad().defined()) << name;
  }
}

TEST(Lora, ActivationCheckpointingGivesTheSameBits) {
  std::map<std::string, at::Tensor> plain;
  for (const auto policy : {ActivationCheckpointing::none, ActivationCheckpointing::selective,
                            ActivationCheckpointing::full}) {
    VideoTransformer model = awake(kAllLayers, at::kFloat);
    model.set_activation_checkpointing(policy);
    output_of(model, at::kFloat).square().sum().backward();
    for (const auto& [name, parameter] : model.trainable()) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      if (policy == ActivationCheckpointing::none) plain[name] = parameter.grad();
      EXPECT_TRUE(parameter.grad().equal(plain.at(name))) << name;
    }
  }
}

TEST(Lora, LoadsAdaptersAlone) {
  VideoTransformer model = awake(kAllLayers);
  VideoTransformer other = awake({});
  other.add_adapters(kAllLayers, 1);
  other.load_trainable(by_name(model.trainable()));
  EXPECT_TRUE(output_of(other).equal(output_of(model)));
  auto values = by_name(model.trainable());
  values.erase("blocks.1.attn2.to_v.lora_B.weight");
  EXPECT_THROW(other.load_trainable(values), DataError);
}

TEST(Lora, RefusesTargetsAndRanksThatCannotBe) {
  const auto refusal = [](const LoraConfig& lora) {
    return message_of([&] { adapter_specs(small_wan(), lora); });
  };
  EXPECT_NE(refusal({.rank = 4, .targets = {"to_q", "to_w"}}).find("\"to_w\" is no linear layer"),
            std::string::npos);
  EXPECT_NE(refusal({.rank = 4, .targets = {"o_q"}}).find("attn1.to_q"), std::string::npos);
  EXPECT_NE(refusal({.rank = 33}).find("32 x 32"), std::string::npos);
}

TEST(Lora, FingerprintTellsWeightsApart) {
  VideoTransformer model = awake({}, at::kFloat);
  const std::string before = fingerprint(model.parameters());
  EXPECT_EQ(before, fingerprint(awake({}, at::kFloat).parameters()));
  const at::NoGradGuard no_grad;
  model.parameters()[3].second.view({-1})[0].add_(1e-3);
  EXPECT_NE(before, fingerprint(model.parameters()));
}

}  // namespace
}  // namespace pendulum
