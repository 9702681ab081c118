// objective/: the path, its loss for both predictions, per-token times, and random numbers that
// belong to samples.
#include "objective/flow_matching.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace pendulum {
namespace {

ObjectiveConfig objective(const std::string& predict) {
  ObjectiveConfig config;
  config.predict = predict;
  config.caption_dropout = 0;
  return config;
}

std::vector<SampleKey> keys(int64_t count) {
  std::vector<SampleKey> out;
  for (int64_t i = 0; i < count; ++i) out.push_back({7, i});
  return out;
}

const at::Tensor kText = at::ones({3, 2, 4});

at::Tensor latents() {
  at::Tensor x = at::empty({3, 2, 3, 4, 4});
  fill_normal(x.data_ptr<float>(), x.numel(), 1);
  return x;
}

TEST(FlowMatching, ThePathJoinsDataAndNoise) {
  const FlowMatching flow(objective("velocity"), 5, {1, 2, 2});
  const at::Tensor x0 = latents();
  const at::Tensor noise = keyed_noise(x0.sizes(), Purpose::noise, 5, keys(3));
  const auto look = [&](const at::Tensor& x_t, const at::Tensor& time, const Conditions&) {
    const at::Tensor t = (time / 1000).view({3, 1, 1, 1, 1});
    const at::Tensor want = (1 - t) * x0 + t * noise;
    EXPECT_LE((x_t - want).abs().max().item<double>(), 1e-6);
    return noise - x0;  // the perfect velocity
  };
  EXPECT_LE(flow.loss(look, x0, {kText}, keys(3)).max().item<double>(), 1e-12);
}

TEST(FlowMatching, BothPredictionsOfTheSameThingHaveTheSameLoss) {
  const FlowMatching velocity(objective("velocity"), 5, {1, 2, 2}), x(objective("x"), 5, {1, 2, 2});
  const at::Tensor x0 = latents();
  const at::Tensor guess = at::roll(x0, 1, 0);
  const auto predict_x = [&](const at::Tensor&, const at::Tensor&, const Conditions&) {
    return guess;
  };
  const auto predict_velocity = [&](const at::Tensor& x_t, const at::Tensor& time,
                                    const Conditions&) {
    return to_velocity(guess, x_t, time / 1000, Predict::x, 0.02);
  };
  const at::Tensor a = velocity.loss(predict_velocity, x0, {kText}, keys(3));
  const at::Tensor b = x.loss(predict_x, x0, {kText}, keys(3));
  for (int i = 0; i < 3; ++i) {
    // Dividing by t amplifies the rounding of x_t: a few eps over the smallest t, squared errors
    // twice that.
    EXPECT_LE(std::abs(a[i].item<double>() - b[i].item<double>()), 1e-4 * b[i].item<double>());
  }
}

TEST(FlowMatching, TokensMayHaveTheirOwnTime) {
  ObjectiveConfig config = objective("velocity");
  config.per_token = true;
  const FlowMatching flow(config, 5, {1, 2, 2});
  const at::Tensor x0 = latents();
  const at::Tensor noise = keyed_noise(x0.sizes(), Purpose::noise, 5, keys(3));
  const auto look = [&](const at::Tensor& x_t, const at::Tensor& time, const Conditions&) {
    EXPECT_EQ(time.sizes(), (std::vector<int64_t>{3, 12}));
    // Token 5 of sample 1 is frame 1, patch row 0, patch column 1.
    const double t = time[1][5].item<double>() / 1000;
    EXPECT_NEAR(t, flow.time_of({7, 1}, 12, 5), 1e-6);
    const double want =
        (1 - t) * x0[1][1][1][1][2].item<double>() + t * noise[1][1][1][1][2].item<double>();
    EXPECT_NEAR(x_t[1][1][1][1][2].item<double>(), want, 1e-6);
    return noise - x0;
  };
  EXPECT_LE(flow.loss(look, x0, {kText}, keys(3)).max().item<double>(), 1e-12);
}

TEST(FlowMatching, NoiseBelongsToTheSampleNotToItsPlace) {
  const at::Tensor both = keyed_noise({2, 2, 1, 2, 2}, Purpose::noise, 5, {{7, 10}, {7, 11}});
  const at::Tensor alone = keyed_noise({1, 2, 1, 2, 2}, Purpose::noise, 5, {{7, 11}});
  EXPECT_TRUE(at::equal(both[1], alone[0]));
  EXPECT_FALSE(at::equal(both[0], both[1]));
}

TEST(FlowMatching, CaptionsAreDroppedAtTheirRatePerSample) {
  ObjectiveConfig config = objective("velocity");
  config.caption_dropout = 0.1;
  const FlowMatching flow(config, 5, {1, 2, 2});
  int dropped = 0;
  for (int i = 0; i < 10000; ++i) dropped += flow.drops_caption({7, i});
  EXPECT_LE(std::abs(dropped - 1000), 5 * 30);  // standard deviation 30

  const auto look = [&](const at::Tensor& x_t, const at::Tensor&, const Conditions& conditions) {
    for (int b = 0; b < 3; ++b) {
      EXPECT_EQ(conditions.text[b].sum().item<double>(), flow.drops_caption({7, 26 + b}) ? 0 : 8);
    }
    return x_t;
  };
  flow.loss(look, latents(), {kText}, {{7, 26}, {7, 27}, {7, 28}});
}

TEST(FlowMatching, ShiftKeepsTheEndsAndRaisesTheMiddle) {
  EXPECT_EQ(shift_time(0, 3), 0);
  EXPECT_EQ(shift_time(1, 3), 1);
  EXPECT_DOUBLE_EQ(shift_time(0.5, 3), 0.75);
  EXPECT_EQ(default_shift(16), 1);
  EXPECT_NEAR(default_shift(32760), 3.36, 0.01);
}

}  // namespace
}  // namespace pendulum
