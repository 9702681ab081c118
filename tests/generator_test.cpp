// Drawing clips: guidance, independence of the batch, what evaluation asks and counts, files.
#include "generate/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "generate/clip_files.h"
#include "generate/evaluation.h"
#include "tiny_model.h"

namespace pendulum {
namespace {

const std::vector<Prompt> kPrompts{{"a red circle moves right", 1},
                                   {"a blue square", 2},
                                   {"", 3},
                                   {"a green triangle moves up slowly", 4}};

// A network of elementwise operations whose answer depends on everything it is given: its rounding
// cannot depend on the batch.
at::Tensor elementwise(const at::Tensor& x, const at::Tensor& time, const Conditions& told) {
  const at::Tensor word = told.text.select(1, 1).select(1, 0).view({-1, 1, 1, 1, 1});
  return x * (time / 1000).view({-1, 1, 1, 1, 1}) - at::sin(x) + word;
}

class GeneratorTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = new TrainedModel(tiny_model(5)); }
  static void TearDownTestSuite() { delete std::exchange(model_, nullptr); }

  static Generator generator(Network network, GenerateSettings settings) {
    return {std::move(network),    at::kCPU,  *model_->codec,
            *model_->text_encoder, {1, 2, 2}, settings};
  }
  static GenerateSettings settings(double guidance) {
    GenerateSettings chosen;
    chosen.steps = 4;
    chosen.guidance = guidance;
    return chosen;
  }

  static TrainedModel* model_;
};
TrainedModel* GeneratorTest::model_ = nullptr;

TEST_F(GeneratorTest, GuidanceOneIsTheNetworkAloneWithOneEvaluation) {
  std::vector<int64_t> batches;
  const Network counted = [&](const at::Tensor& x, const at::Tensor& time, const Conditions& told) {
    batches.push_back(x.size(0));
    return elementwise(x, time, told);
  };
  const at::Tensor latents = generator(counted, settings(1)).generate_latents(kPrompts, kTinyShape);
  EXPECT_EQ(batches, std::vector<int64_t>(4, 4));  // four steps of four prompts

  // The same path by hand, from the noise that no step has touched.
  const Network still = [](const at::Tensor& x, const at::Tensor&, const Conditions&) {
    return at::zeros_like(x);
  };
  const at::Tensor noise = generator(still, settings(1)).generate_latents(kPrompts, kTinyShape);
  at::Tensor text =
      model_->text_encoder->encode({kPrompts[0].text, kPrompts[1].text, "x", kPrompts[3].text});
  text[2].zero_();
  const Velocity velocity = [&](const at::Tensor& x, double t) {
    return elementwise(x, at::full({4}, t, at::kFloat) * 1000, {text});
  };
  EXPECT_TRUE(latents.equal(integrate(Solver::ab2, velocity, noise, time_grid(4, 1))));
}

TEST_F(GeneratorTest, GuidanceGoesFromNoCaptionThroughTheCaption) {
  std::vector<int64_t> batches;
  // The velocity is the caption's first state, 0 without one; time has length 1, so latents end at
  // noise - g * state.
  const Network word = [&](const at::Tensor& x, const at::Tensor&, const Conditions& told) {
    batches.push_back(x.size(0));
    return at::zeros_like(x) + told.text.select(1, 0).select(1, 0).view({-1, 1, 1, 1, 1});
  };
  const at::Tensor state = model_->text_encoder->encode({kPrompts[0].text})
                               .select(1, 0)
                               .select(1, 0)
                               .view({1, 1, 1, 1, 1});
  const at::Tensor alone = generator(word, settings(1)).generate_latents({kPrompts[0]}, kTinyShape);
  for (const double guidance : {0.0, 0.5, 3.0}) {
    batches.clear();
    const at::Tensor latents =
        generator(word, settings(guidance)).generate_latents({kPrompts[0]}, kTinyShape);
    EXPECT_EQ(batches, std::vector<int64_t>(4, 2));
    // A few roundings of numbers below 8 (noise of at most 6 sigma, a state of at most 2).
    const double bound = 32 * 8 * std::numeric_limits<float>::epsilon();
    EXPECT_LE((latents - (alone - (guidance - 1) * state)).abs().max().item<float>(), bound)
        << guidance;
  }
}

TEST_F(GeneratorTest, EmptyCaptionIsNoCaption) {
  const at::Tensor plain =
      generator(elementwise, settings(1)).generate_latents({kPrompts[2]}, kTinyShape);
  const at::Tensor guided =
      generator(elementwise, settings(7)).generate_latents({kPrompts[2]}, kTinyShape);
  EXPECT_TRUE(plain.equal(guided));
}

TEST_F(GeneratorTest, PromptDoesNotDependOnItsBatch) {
  const Generator drawn = generator(elementwise, settings(3));
  const at::Tensor together = drawn.generate_latents(kPrompts, kTinyShape);
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    EXPECT_TRUE(drawn.generate_latents({kPrompts[i]}, kTinyShape)[0].equal(together[i])) << i;
  }
  EXPECT_FALSE(together[0].equal(together[1]));
}

// With a real transformer only the rounding of products may differ with the batch. It is measured
// rather than guessed: the same clips from noise that was disturbed by one unit in the last place
// differ by what the path makes of a rounding error; each of the 2 x 3 evaluations adds some tens
// of such roundings.
TEST_F(GeneratorTest, TransformerDependsOnTheBatchByRoundingAlone) {
  const Generator drawn = model_->generator();
  const at::Tensor together = drawn.generate_latents(kPrompts, kTinyShape);
  ASSERT_TRUE(together.isfinite().all().item<bool>());
  const VideoTransformer& transformer = *model_->transformer;
  const Network disturbed = [&](const at::Tensor& x, const at::Tensor& time,
                                const Conditions& told) {
    return transformer.forward(x * (1 + std::numeric_limits<float>::epsilon()), time, told.text);
  };
  const at::Tensor nearby =
      generator(disturbed, generate_settings(model_->generate, model_->objective))
          .generate_latents(kPrompts, kTinyShape);
  const float bound = 50 * (nearby - together).abs().max().item<float>();
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const at::Tensor alone = drawn.generate_latents({kPrompts[i]}, kTinyShape)[0];
    EXPECT_LE((alone - together[i]).abs().max().item<float>(), bound) << i;
  }
}

TEST_F(GeneratorTest, BatchesOfAnySizeGiveTheSameClips) {
  const Generator drawn = generator(elementwise, settings(2));
  const std::vector<Frames> whole = drawn.generate(kPrompts, kTinyShape, 64);
  ASSERT_EQ(whole.size(), kPrompts.size());
  EXPECT_EQ(whole[0].count, kTinyShape.frames);
  EXPECT_EQ(whole[0].height, kTinyShape.height);
  EXPECT_EQ(whole[0].width, kTinyShape.width);
  for (const int batch : {1, 2, 3, 4}) {
    const std::vector<Frames> pieces = drawn.generate(kPrompts, kTinyShape, batch);
    for (size_t i = 0; i < whole.size(); ++i)
      EXPECT_EQ(pieces[i].rgb, whole[i].rgb) << batch << " " << i;
  }
  EXPECT_TRUE(drawn.generate({}, kTinyShape, 4).empty());
}

// A network that knows the clean latent arrives at it, however small the last step's time is.
TEST_F(GeneratorTest, PredictedCleanLatentIsReached) {
  const Network oracle = [](const at::Tensor& x, const at::Tensor&, const Conditions&) {
    return at::full_like(x, 0.25f);
  };
  GenerateSettings known = settings(1);
  known.predict = Predict::x;
  for (const Solver solver : {Solver::euler, Solver::ab2}) {
    for (const int steps : {4, 100}) {
      known.solver = solver;
      known.steps = steps;
      const at::Tensor latents = generator(oracle, known).generate_latents(kPrompts, kTinyShape);
      // Numbers below 8, rounded a few times a step; the last velocity divides by a time of
      // 1 / steps, which the last step takes back.
      const double bound = 4 * steps * 8 * 8 * std::numeric_limits<float>::epsilon();
      EXPECT_LE((latents - 0.25).abs().max().item<float>(), bound) << steps;
    }
  }
}

TEST(GenerateSettings, RefusesWhatIsOutOfRange) {
  const ObjectiveConfig objective;
  GenerateConfig config;
  EXPECT_NO_THROW(generate_settings(config, objective));
  config.steps = 0;
  EXPECT_THROW(generate_settings(config, objective), ConfigError);
  config = {};
  config.guidance = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(generate_settings(config, objective), ConfigError);
  config = {};
  config.shift = 0.0;
  EXPECT_THROW(generate_settings(config, objective), ConfigError);
  config = {};
  config.solver = "rk4";
  EXPECT_THROW(generate_settings(config, objective), ConfigError);
}

TEST(Evaluation, ItemsAreFixed) {
  const auto items = evaluation_items(48, 4);
  ASSERT_EQ(items.size(), 192u);
  std::set<std::pair<std::string, uint64_t>> distinct;
  for (const auto& item : items) {
    distinct.insert({item.prompt.text, item.prompt.seed});
    EXPECT_EQ(item.prompt.text, item.caption.caption);
  }
  EXPECT_EQ(distinct.size(), 192u);
  EXPECT_EQ(items[5].prompt.seed, 1001u);
  // Fewer captions or seeds are a part of the same list.
  const auto fewer = evaluation_items(3, 1);
  ASSERT_EQ(fewer.size(), 3u);
  EXPECT_EQ(fewer[2].prompt.text, items[8].prompt.text);
  EXPECT_EQ(fewer[2].prompt.seed, items[8].prompt.seed);
  EXPECT_THROW(evaluation_items(49, 1), ConfigError);
  EXPECT_THROW(evaluation_items(0, 1), ConfigError);
  EXPECT_THROW(evaluation_items(1, 0), ConfigError);
}

TEST(Evaluation, ErrorsAreBinomial) {
  const Proportion p = proportion(90, 100);
  EXPECT_DOUBLE_EQ(p.share, 0.9);
  EXPECT_NEAR(p.error, 0.03, 1e-12);  // sqrt(0.9 * 0.1 / 100)
  EXPECT_EQ(proportion(5, 5).error, 0);
  EXPECT_TRUE(std::isnan(proportion(0, 0).share));
}

TEST(Evaluation, TablesSayWhatWasCounted) {
  Accuracy clips{.clips = 10, .moving = 10, .colour = 10, .shape = 5, .direction = 8};
  EXPECT_EQ(one_line(clips),
            "colour 1.000 +- 0.000, shape 0.500 +- 0.158, direction 0.800 +- 0.126 (10 clips)");
  clips += clips;
  EXPECT_EQ(clips.direction, 16);
  const nlohmann::json json = to_json(clips);
  EXPECT_EQ(json["shape"]["right"], 10);
  EXPECT_EQ(json["shape"]["of"], 20);
  EXPECT_EQ(json["direction"]["chance"], 0.25);
  EXPECT_NE(table(clips).find("16/20"), std::string::npos);
  const Accuracy stills{.clips = 4, .moving = 0, .colour = 1, .shape = 1, .direction = 0};
  EXPECT_EQ(one_line(stills).find("direction"), std::string::npos);
  EXPECT_FALSE(to_json(stills).contains("direction"));
}

TEST(ClipFiles, AreNamedAfterTheirCaptions) {
  const std::string folder = testing::TempDir() + "generator_test_files";
  std::filesystem::remove_all(folder);
  const std::vector<Prompt> prompts{
      {"A red circle, moving/right!", 7}, {"../..", 8}, {std::string(500, 'a'), 9}};
  const ClipFiles files =
      write_clips(folder, prompts, {Frames(5, 16, 16), Frames(1, 16, 16), Frames(5, 8, 8)}, 8);
  EXPECT_EQ(files.clips[0], folder + "/000-a-red-circle-moving-right-7.mp4");
  EXPECT_EQ(files.clips[1], folder + "/001-clip-8.png");
  for (const std::string& path : files.clips)
    EXPECT_GT(std::filesystem::file_size(path), 0u) << path;
  EXPECT_GT(std::filesystem::file_size(files.contact_sheet), 0u);
  EXPECT_THROW(write_clip(folder + "/x.png", Frames(5, 8, 8), 8), ConfigError);
  EXPECT_THROW(write_clip(folder + "/x.mp4", Frames(1, 8, 8), 8), ConfigError);
  EXPECT_THROW(write_clip(folder + "/x.gif", Frames(5, 8, 8), 8), ConfigError);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace pendulum
