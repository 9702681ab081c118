// Image to video: what a model is given of a first frame, how training gives and leaves it out, and
// how drawing keeps it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/error.h"
#include "data/media_writer.h"
#include "embed/first_frame.h"
#include "objective/first_latent.h"
#include "objective/flow_matching.h"
#include "tiny_model.h"

namespace pendulum {
namespace {

constexpr std::array<int, 3> kPatch{1, 2, 2};

at::Tensor normal_tensor(at::IntArrayRef sizes, uint64_t key) {
  at::Tensor x = at::empty(sizes);
  fill_normal(x.data_ptr<float>(), x.numel(), key);
  return x;
}

std::vector<SampleKey> keys(int64_t count) {
  std::vector<SampleKey> out;
  for (int64_t i = 0; i < count; ++i) out.push_back({7, i});
  return out;
}

Frames noisy_frames(int count, int height, int width) {
  Frames frames(count, height, width);
  for (size_t i = 0; i < frames.rgb.size(); ++i)
    frames.rgb[i] = static_cast<uint8_t>(draw(i, 11) & 255);
  return frames;
}

const std::unique_ptr<Codec> kHaar = make_codec({.kind = "haar", .spatial = 4, .temporal = 4});

// Grey lies between two byte values, and the transform is linear: the mean of the clips with both.
TEST(FirstFrameEncoder, TheClipBehindAFirstFrameIsGrey) {
  const Frames first = noisy_frames(1, 8, 12);
  at::Tensor mean = at::zeros({kHaar->channels(), 3, 2, 3});
  for (const uint8_t level : {127, 128}) {
    Frames clip(9, 8, 12);
    std::fill(clip.rgb.begin(), clip.rgb.end(), level);
    std::copy(first.rgb.begin(), first.rgb.end(), clip.rgb.begin());
    mean += kHaar->encode(clip) / 2;
  }
  EXPECT_LE((kHaar->encode_first(first, 9) - mean).abs().max().item<float>(), 1e-6);
}

TEST(FirstFrameEncoder, AMaskSaysWhichFramesAreGiven) {
  const FirstFrameEncoder encoder(FirstFrame::channels, *kHaar, nullptr);
  const Frames first = noisy_frames(1, 8, 12);
  const at::Tensor start = encoder.start(first, 9);
  ASSERT_EQ(start.sizes(), (std::vector<int64_t>{4 + kHaar->channels(), 3, 2, 3}));
  EXPECT_TRUE(start.narrow(0, 0, 4).select(1, 0).eq(1).all().item<bool>());
  EXPECT_TRUE(start.narrow(0, 0, 4).narrow(1, 1, 2).eq(0).all().item<bool>());
  EXPECT_TRUE(start.narrow(0, 4, kHaar->channels()).equal(kHaar->encode_first(first, 9)));
  const Conditions nothing = encoder.nothing({9, 8, 12});
  EXPECT_EQ(nothing.start.sizes(), start.sizes());
  EXPECT_TRUE(nothing.start.eq(0).all().item<bool>());
  const FirstFrameEncoder latent(FirstFrame::latent, *kHaar, nullptr);
  EXPECT_TRUE(latent.start(first, 9).equal(kHaar->encode(first)));
  EXPECT_NE(encoder.key(), latent.key());
}

TEST(FirstFrames, AreGivenAtTheirRateAndNotToStills) {
  ObjectiveConfig config;
  config.caption_dropout = 0;
  config.first_frame = 0.7;
  const FlowMatching flow(config, 5, kPatch, FirstFrame::channels);
  int given = 0;
  for (int i = 0; i < 10000; ++i) given += flow.gives_first_frame({7, i});
  EXPECT_LE(std::abs(given - 7000), 5 * 46);  // standard deviation 46

  const at::Tensor x0 = normal_tensor({8, 2, 3, 4, 4}, 1);
  const Conditions told{at::ones({8, 2, 4}), at::ones({8, 6, 3, 4, 4}), at::ones({8, 5, 3})};
  bool some = false, all = true;
  const Network look = [&](const at::Tensor& x, const at::Tensor&, const Conditions& seen) {
    for (int64_t b = 0; b < 8; ++b) {
      const bool is_given = flow.gives_first_frame({7, b});
      EXPECT_EQ(seen.start[b].sum().item<float>(), is_given ? 6 * 3 * 16 : 0) << b;
      EXPECT_EQ(seen.image[b].sum().item<float>(), is_given ? 15 : 0) << b;
      some |= is_given;
      all &= is_given;
    }
    return x;
  };
  flow.loss(look, x0, told, keys(8));
  EXPECT_TRUE(some && !all) << "the eight samples do not show both";

  const Network still = [&](const at::Tensor& x, const at::Tensor&, const Conditions& seen) {
    EXPECT_EQ(seen.start.abs().sum().item<float>(), 0);
    return x;
  };
  const Conditions told_still{told.text, at::ones({8, 6, 1, 4, 4}), told.image};
  flow.loss(still, x0.narrow(2, 0, 1), told_still, keys(8));
}

TEST(FirstFrames, ALatentOneIsCleanAtTimeZeroAndNotInTheLoss) {
  ObjectiveConfig config;
  config.caption_dropout = 0;
  config.first_frame = 0.5;
  const FlowMatching flow(config, 5, kPatch, FirstFrame::latent);
  const at::Tensor x0 = normal_tensor({8, 2, 3, 4, 4}, 1),
                   start = normal_tensor({8, 2, 1, 4, 4}, 2);
  const at::Tensor noise = keyed_noise(x0.sizes(), Purpose::noise, 5, keys(8));
  const Network perfect = [&](const at::Tensor& x, const at::Tensor& time, const Conditions&) {
    EXPECT_EQ(time.sizes(), (std::vector<int64_t>{8, 12}));
    at::Tensor velocity = noise - x0;
    for (int64_t b = 0; b < 8; ++b) {
      const double t = flow.time_of({7, b}, 12);
      const bool is_given = flow.gives_first_frame({7, b});
      EXPECT_NEAR(time[b][3].item<double>(), is_given ? 0 : 1000 * t, 1e-3);
      EXPECT_NEAR(time[b][4].item<double>(), 1000 * t, 1e-3);
      EXPECT_EQ(x[b].narrow(1, 0, 1).equal(start[b]), is_given);
      if (is_given) velocity[b].select(1, 0).add_(100);  // whatever is said of it
    }
    return velocity;
  };
  EXPECT_LE(flow.loss(perfect, x0, {at::ones({8, 2, 4}), start}, keys(8)).max().item<double>(),
            1e-12);
  // The mean is over what is made: an error of 1 there costs 1, given or not.
  const Network off = [&](const at::Tensor&, const at::Tensor&, const Conditions&) {
    return noise - x0 + 1;
  };
  const at::Tensor ones = flow.loss(off, x0, {at::ones({8, 2, 4}), start}, keys(8));
  EXPECT_LE((ones - 1).abs().max().item<double>(), 1e-5);
}

// The other half of the pair, and a range that the distribution hardly reaches.
TEST(TimeRange, KeepsTheDistributionsShapeWithinIt) {
  for (const std::string timestep : {"logit-normal", "uniform"}) {
    ObjectiveConfig whole;
    whole.timestep = timestep;
    whole.mean = 0.3;
    whole.shift = 3.0;
    ObjectiveConfig part = whole;
    part.time_range = {0.6, 0.9};
    const FlowMatching all(whole, 5, kPatch), some(part, 6, kPatch);
    std::vector<double> kept, drawn;
    for (int i = 0; i < 40000; ++i) {
      const double t = all.time_of({7, i}, 16), s = some.time_of({7, i}, 16);
      if (t >= 0.6 && t <= 0.9) kept.push_back(t);
      drawn.push_back(s);
    }
    ASSERT_GT(kept.size(), 5000u);
    std::sort(kept.begin(), kept.end());
    std::sort(drawn.begin(), drawn.end());
    EXPECT_GE(drawn.front(), 0.6);
    EXPECT_LE(drawn.back(), 0.9);
    // Quantiles agree to five standard errors of the smaller set, density at least 1 per 0.9.
    for (const double q : {0.1, 0.25, 0.5, 0.75, 0.9}) {
      const double bound = 5 * std::sqrt(q * (1 - q) / kept.size()) * 0.9;
      EXPECT_NEAR(drawn[q * drawn.size()], kept[q * kept.size()], bound) << timestep << " " << q;
    }
  }
  ObjectiveConfig rare;
  rare.std = 0.05;
  rare.shift = 1.0;
  for (const auto& range : {std::vector<double>{0, 0.1}, {0.9, 1}}) {
    rare.time_range = range;
    const double t = FlowMatching(rare, 5, kPatch).time_of({7, 1}, 16);
    EXPECT_GE(t, range[0]);
    EXPECT_LE(t, range[1]);
    EXPECT_GT(t * (1 - t), 0);
  }
}

class DrawingFromImages : public testing::Test {
 protected:
  DrawingFromImages() : model_(tiny_model(5)) {
    std::filesystem::create_directories(folder_);
    write_image(image_, noisy_frames(1, kTinyShape.height, kTinyShape.width));
  }
  ~DrawingFromImages() override { std::filesystem::remove_all(folder_); }

  Generator generator(Network network, FirstFrame kind, double guidance = 3) {
    GenerateSettings settings;
    settings.steps = 4;
    settings.guidance = guidance;
    return {std::move(network),
            at::kCPU,
            *model_.codec,
            *model_.text_encoder,
            kPatch,
            settings,
            FirstFrameEncoder(kind, *model_.codec, nullptr)};
  }
  at::Tensor encoded_image() {
    return model_.codec->encode(noisy_frames(1, kTinyShape.height, kTinyShape.width));
  }

  const std::string folder_ = testing::TempDir() + "first_frame_test";
  const std::string image_ = folder_ + "/first.png";
  TrainedModel model_;
};

TEST_F(DrawingFromImages, AGivenLatentFrameStaysAsItIs) {
  const Network network = [&](const at::Tensor& x, const at::Tensor& time, const Conditions&) {
    EXPECT_EQ(time.dim(), 2);
    return x * 0.5 + time.mean() * 1e-3;
  };
  const Generator drawn = generator(network, FirstFrame::latent);
  const at::Tensor latents =
      drawn.generate_latents({{"a red circle", 1, image_}, {"a red circle", 1}}, kTinyShape);
  EXPECT_TRUE(latents[0].narrow(1, 0, 1).equal(encoded_image()));
  EXPECT_FALSE(latents[1].narrow(1, 0, 1).equal(encoded_image()));
}

TEST_F(DrawingFromImages, ChannelsReachTheNetworkWithAndWithoutCaption) {
  int calls = 0;
  const Network network = [&](const at::Tensor& x, const at::Tensor&, const Conditions& told) {
    ++calls;
    EXPECT_EQ(told.start.size(0), 4);  // two prompts, twice
    for (const int64_t b : {0, 2}) {
      EXPECT_TRUE(told.start[b].narrow(0, 0, 4).select(1, 0).eq(1).all().item<bool>());
      EXPECT_TRUE(told.start[b]
                      .narrow(0, 4, model_.codec->channels())
                      .narrow(1, 0, 1)
                      .equal(encoded_image()));
    }
    EXPECT_EQ(told.start[1].abs().sum().item<float>(), 0);
    return x;
  };
  generator(network, FirstFrame::channels)
      .generate_latents({{"a red circle", 1, image_}, {"a blue square", 2}}, kTinyShape);
  EXPECT_EQ(calls, 4);
}

TEST_F(DrawingFromImages, WhatCannotBeGivenIsRefusedByName) {
  const Network network = [](const at::Tensor& x, const at::Tensor&, const Conditions&) {
    return x;
  };
  const auto refuses = [&](const std::string& image, FirstFrame kind, Shape shape,
                           const std::string& words) {
    try {
      generator(network, kind).generate_latents({{"a", 1, image}}, shape);
      ADD_FAILURE() << words;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  refuses(image_, FirstFrame::none, kTinyShape, "makes videos from captions alone");
  refuses(folder_ + "/none.png", FirstFrame::latent, kTinyShape, "none.png: cannot be opened");
  refuses(std::string(PENDULUM_SOURCE_DIR) + "/README.md", FirstFrame::latent, kTinyShape,
          "README.md: ");
  refuses(image_, FirstFrame::latent, {1, 16, 24}, "a still of one frame");
}

}  // namespace
}  // namespace pendulum
