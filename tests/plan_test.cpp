// The plan against figures worked out by hand, its manifest, its warnings and the mistakes it must
// name.
#include "pendulum/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "pendulum/bucket_report.h"
#include "pendulum/report.h"
#include "plan_example.h"

namespace pendulum {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

bool mentions(const std::string& whole, const std::string& part) {
  return whole.find(part) != std::string::npos;
}

TEST(Cost, OfTheSmallModelByHand) {
  Geometry g = small_geometry();
  EXPECT_EQ(tokens(g, {1, 16, 16}), 4);
  EXPECT_EQ(tokens(g, {5, 16, 16}), 8);
  // 4 tokens, width 2: self-attention 128 + 128, cross-attention 64 + 16 + 32, feed-forward 128,
  // patches 384, text 16, time 64.
  EXPECT_EQ(forward_flops(g, {1, 16, 16}), 960);
  // 8 tokens: 256 + 512, 128 + 16 + 64, 256, 768, 16, 64.
  EXPECT_EQ(forward_flops(g, {5, 16, 16}), 2080);
  EXPECT_EQ(training_flops(g, {5, 16, 16}), 6240);
  // One head: a ring of 2 passes keys and values of 8 / 2 tokens x 2 numbers forward and backward
  // once, their gradients twice. Two heads: 4 all-to-alls forward, 4 backward, half of each stays.
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), (2 + 2 + 4) * 32);
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 2).bytes(), (2 + 2 + 8) * 16);
  g.heads = 2;
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), 8 * 16);
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 1, 4).bytes(), 0);
  g.activation_checkpointing = "selective";
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), 12 * 16);
  g.heads = 1;
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), (2 + 2 + 4) * 32);
  g.activation_checkpointing = "full";
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), (2 + 2 + 2 + 4) * 32);
  g = small_geometry();
  g.heads = 2;
}

TEST(Cost, OfAProcessThatSharesASample) {
  Geometry g = small_geometry();
  g.heads = 2;
  // Of the 2080 forward: tokens' products 256 + 128 + 256 + 768 and attention 512 + 64 are shared;
  // the text's keys and values, 16, and the embedders, 16 + 64, are everybody's own.
  Work work = sample_work(g, {5, 16, 16}, 2);
  EXPECT_EQ(work.matrix, 3 * (1408 / 2 + 16 + 80));
  EXPECT_EQ(work.attention, 3 * 576 / 2);
  work = sample_work(g, {5, 16, 16}, 1);
  EXPECT_EQ(work.matrix + work.attention, training_flops(g, {5, 16, 16}));
  EXPECT_EQ(sample_work(g, {5, 16, 16}, 3).attention, 3 * 576 * 3 / 8);  // 3 of 8 tokens at most
  CostModel model;
  model.attention = 2;
  model.per_byte = 10;
  EXPECT_EQ(sample_cost(g, {5, 16, 16}, 2, model, 4), 2400 + 2 * 864 + 10 * 8 * 16);
  model.per_pass = 1000;
  model.per_call = 100;  // 2 all-to-alls forward and 2 backward
  EXPECT_EQ(pass_cost(g, {5, 16, 16}, 2, 3, model, 4),
            1000 + 400 + 3 * (2400 + 2 * 864 + 10 * 8 * 16));
  // What is computed again: the block's products; with full, its attention too.
  g.activation_checkpointing = "selective";
  work = sample_work(g, {5, 16, 16}, 1);
  EXPECT_EQ(work.matrix, 4 * (1408 + 16) + 3 * 80);
  EXPECT_EQ(work.attention, 3 * 576);
  g.activation_checkpointing = "full";
  EXPECT_EQ(sample_work(g, {5, 16, 16}, 1).attention, 4 * 576);
}

TEST(Cost, OneFormulaOfTrafficForALayerAndForAModel) {
  Geometry g = small_geometry();
  g.layers = 3;
  g.heads = 2;
  // 4 processes, 2 of them exchanging heads: 8 / 4 tokens of 2 numbers each.
  const Traffic layer = attention_traffic(2 * 2, 4, 2, 2),
                model = sample_traffic(g, {5, 16, 16}, 4, 4);
  EXPECT_EQ(layer.exchanged, 8 * 16 / 2);
  EXPECT_EQ(layer.passed, 2 * 16 * (2 * 1 + 2));
  EXPECT_EQ(layer.calls, 2 * 2 + 2 * 1 + 2);
  EXPECT_EQ(model.exchanged, 3 * layer.exchanged);
  EXPECT_EQ(model.passed, 3 * layer.passed);
  EXPECT_EQ(model.calls, 3 * layer.calls);
  EXPECT_EQ(update_bytes(g, 1), 0);
  EXPECT_EQ(update_bytes(g, 4), 6.0 * static_cast<double>(parameter_count(g)));
}

TEST(Cost, ActivationCheckpointingKeepsLess) {
  Geometry g = small_geometry();
  g.layers = 10;
  const auto bytes = [&](const char* policy) {
    g.activation_checkpointing = policy;
    return activation_bytes(g, {5, 16, 16}, 1, 1, 4);
  };
  const double row = 8 * 2 * 4;  // a number for every token and channel
  const double block = bytes("none") / 10;
  EXPECT_EQ(bytes("full"), 10 * row + block);
  EXPECT_EQ(bytes("selective"), 30 * row + block);
  g.offloads = true;
  EXPECT_EQ(bytes("full"), 2 * row + block);
  EXPECT_EQ(bytes("selective"), 22 * row + block);
}

TEST(Cost, DealtStateHoldsLess) {
  Geometry g = small_geometry();
  const auto numbers = static_cast<double>(parameter_count(g));
  EXPECT_EQ(state_bytes(g, true), 20 * numbers);  // weights, gradients, two moments, average
  EXPECT_EQ(state_bytes(g, false), 16 * numbers);
  EXPECT_EQ(state_bytes(g, true, {1, 4}), (8 + 3) * numbers);
  g.layers = 10;
  const auto many = static_cast<double>(parameter_count(g));
  g.layers = 9;
  const double block = many - static_cast<double>(parameter_count(g));
  g.layers = 10;
  EXPECT_EQ(state_bytes(g, true, {2, 4}), 4 * many + 16 * many / 4 + 4 * 2 * block);
  EXPECT_EQ(state_bytes(g, true, {3, 4}),
            20 * many / 4 + 4 * (2 * block + many - 10 * block + 2 * block));
}

TEST(Cost, ParameterCountIsThePublishedModels) {
  // Both counted over diffusers' WanTransformer3DModel; the first is Wan2.1-T2V-1.3B.
  Geometry g{30, 1536, 8960, 256, 512, 4096, 8, 4, {1, 2, 2}, 16, true};
  EXPECT_EQ(parameter_count(g), 1418996800);
  g = {6, 160, 640, 64, 32, 384, 4, 4, {1, 2, 2}, 12, false};
  EXPECT_EQ(parameter_count(g), 2773648);
}

TEST(Cost, ShapesThatDoNotDivideAreNamed) {
  const Geometry g = small_geometry();
  EXPECT_TRUE(mentions(message_of([&] {
                         tokens(g, {1, 20, 16});
                       }),
                       "height 20 is not a multiple of 8"));
  EXPECT_TRUE(mentions(message_of([&] {
                         tokens(g, {1, 16, 4});
                       }),
                       "width 4 is not a multiple of 8"));
  EXPECT_TRUE(mentions(message_of([&] { tokens(g, {4, 16, 16}); }), "4 frames"));
  EXPECT_TRUE(mentions(message_of([&] { tokens(g, {0, 16, 16}); }), "0 frames"));
  Geometry coarse = g;
  coarse.temporal = 8;
  EXPECT_EQ(fitting_frames(coarse, 13), 9);
  EXPECT_EQ(fitting_frames(coarse, 8), 1);
  EXPECT_EQ(fitting_frames(coarse, 0), 0);
  coarse.patch[0] = 2;
  EXPECT_EQ(fitting_frames(coarse, 5), 0);
}

TEST(Plan, ArithmeticByHand) {
  const Plan plan = small_plan();
  ASSERT_EQ(plan.segments.size(), 2u);
  const SegmentPlan& low = plan.segments[1];
  ASSERT_EQ(low.buckets.size(), 3u);
  const BucketPlan& five = low.buckets[2];  // light first
  EXPECT_EQ(five.name, "clips/5x16x16");
  EXPECT_EQ(five.entries, (std::vector<int64_t>{0, 1, 6}));
  EXPECT_EQ(five.uid, hash_name("clips/5x16x16"));
  EXPECT_EQ(five.batch, 1);
  EXPECT_EQ(five.block, 2);
  // Weights .75 x 3/4, .75 x 1/4, .25 over blocks of 2, 4, 4: .28125, .046875, .0625, so rates .72,
  // .12, .16. The integer rates are exact to 2^-32 of themselves.
  EXPECT_LE(std::abs(five.probability - 0.72), 1e-9);
  EXPECT_LE(std::abs(five.samples - 12 * 0.72 * 2), 1e-7);
  for (int s = 0; s < 2; ++s) {
    const BucketPlan& one = low.buckets[s];
    const bool clips = one.source == "clips";
    EXPECT_EQ(one.name, clips ? "clips/1x16x16" : "stills/1x16x16");
    EXPECT_EQ(one.batch, 2);  // floor(6240 / 2880)
    EXPECT_EQ(one.block, 4);
    EXPECT_LE(std::abs(one.probability - (clips ? 0.12 : 0.16)), 1e-9);
  }
  EXPECT_LT(low.buckets[0].uid, low.buckets[1].uid);  // same cost
  EXPECT_LE(std::abs(low.expected_samples - 30.72), 1e-7);
  EXPECT_LE(std::abs(low.expected_tokens - (17.28 * 8 + 13.44 * 4)), 1e-6);
  EXPECT_LE(std::abs(low.expected_flops - 146534.4), 1e-3);
  EXPECT_EQ(low.loss_denominator, low.expected_samples);
  EXPECT_EQ(low.steps, 34);  // 1e7 x 0.5 / 146534.4 = 34.12
  EXPECT_LE(std::abs(five.epochs - 17.28 * 34 / 3), 1e-5);
  EXPECT_LE(std::abs(plan.epochs("stills") - (12 * 4 * 20 + 7.68 * 34) / 2), 1e-5);
  EXPECT_EQ(plan.total_steps(), 54);
}

TEST(Buckets, SizesOfAspectsByHand) {
  // Units of 8 and 64 x 64 of room: 48 x 80 keeps 720/768 of 3840, ahead of 40 x 96's 640/864.
  const PictureSize base{64, 64};
  EXPECT_EQ(size_of_aspect({16, 9}, base, 8, 8), (PictureSize{48, 80}));
  EXPECT_EQ(size_of_aspect({9, 16}, base, 8, 8), (PictureSize{80, 48}));
  EXPECT_EQ(size_of_aspect({1, 1}, base, 8, 8), base);
  EXPECT_EQ(size_of_aspect({1000, 1}, base, 8, 8), (PictureSize{8, 512}));
  EXPECT_EQ(size_of_aspect({16, 9}, {480, 832}, 16, 16), (PictureSize{480, 832}));
  // Against every size there is, in floating point.
  for (const Aspect aspect : {Aspect{16, 9}, {4, 3}, {1, 1}, {2, 3}, {21, 9}}) {
    for (const PictureSize room : {PictureSize{64, 64}, {32, 48}, {240, 416}, {8, 8}}) {
      double most = 0;
      const double wanted = static_cast<double>(aspect.width) / aspect.height;
      const auto score = [&](int h, int w) {
        const double found = static_cast<double>(w) / h;
        return std::min(found / wanted, wanted / found) * h * w;
      };
      for (int h = 8; h * 8 <= room.height * room.width; h += 8) {
        for (int w = 8; h * w <= room.height * room.width; w += 8)
          most = std::max(most, score(h, w));
      }
      const PictureSize size = size_of_aspect(aspect, room, 8, 8);
      EXPECT_LE(size.height * size.width, room.height * room.width);
      EXPECT_GE(score(size.height, size.width), most * (1 - 1e-12));
    }
  }
}

TEST(Buckets, TheLeastCropAndTheLongestLengthThatIsFilled) {
  StageConfig stage = small_stage("s", 17, {});
  stage.shape = {17, 64, 64};
  stage.buckets.aspects = {{16, 9}, {1, 1}, {9, 16}};
  stage.buckets.lengths = {17, 9};
  const StageBuckets buckets(stage, small_geometry());
  const auto choose = [&](int width, int height, int frames, bool is_still = false) {
    return buckets.choose({width, height, frames, is_still});
  };
  EXPECT_EQ(choose(1920, 1080, 17).shape, (Shape{17, 48, 80}));
  EXPECT_EQ(choose(1080, 1920, 13).shape, (Shape{9, 80, 48}));
  EXPECT_EQ(choose(1000, 1000, 9).shape, (Shape{9, 64, 64}));
  EXPECT_EQ(choose(1000, 1000, 1, true).shape, (Shape{1, 64, 64}));
  // 3840 : 2160 is wider than 80 : 48: 1 - (5 / 3) / (16 / 9) is cut away.
  EXPECT_NEAR(choose(3840, 2160, 17).crop, 1 - 15.0 / 16, 1e-12);
  EXPECT_NEAR(choose(3840, 2160, 17).scale, 45, 1e-12);
  EXPECT_EQ(choose(64, 64, 5).shape.frames, 0);
  EXPECT_EQ(choose(64, 64, 5).refusal, "shorter than 9 frames at 8 frames a second");
  EXPECT_EQ(choose(32, 32, 9).scale, 0.5);  // enlarged, which is counted
  stage.buckets.min_scale = 0.75;
  EXPECT_EQ(choose(32, 32, 9).shape.frames, 0);
  EXPECT_EQ(choose(32, 32, 9).refusal, "smaller than 0.75 of its bucket's height and width");
  EXPECT_EQ(choose(48, 48, 9).shape.frames, 9);
  stage.buckets = {.min_frames = 9};
  const StageBuckets plain(stage, small_geometry());
  EXPECT_EQ(plain.choose({64, 64, 13, false}).shape.frames, 13);
  EXPECT_EQ(plain.choose({64, 64, 5, false}).shape.frames, 0);
  EXPECT_EQ(plain.choose({64, 64, 1, true}).shape.frames, 1);
  EXPECT_EQ(plain.sizes(), (std::vector<PictureSize>{{64, 64}}));
  stage.buckets.auto_aspects = true;
  EXPECT_EQ(StageBuckets(stage, small_geometry()).sizes().front(), (PictureSize{64, 64}));
}

// pendulum.md: a source's weight is divided over its buckets by their number of samples.
TEST(Buckets, AspectsDivideASourcesWeightExactly) {
  Config config = small_config();
  config.stages[1].buckets.aspects = {{1, 1}, {4, 1}};
  auto catalogues = small_catalogues();
  catalogues[0].sizes = {{}, {0, 1, 1, 0}};
  catalogues[0].fits = {{},
                        {{{5, 16, 16}, {0.5, 1}}, {{5, 8, 32}, {0.25, 0}}, {{1, 8, 32}, {0, 0}}}};
  catalogues[0].refused = {{}, {}};
  const Plan plan = make_plan(config, catalogues, small_geometry());
  const SegmentPlan& low = plan.segments[1];
  std::map<std::string, const BucketPlan*> found;
  double clips = 0;
  for (const BucketPlan& bucket : low.buckets) {
    found[bucket.name] = &bucket;
    if (bucket.source == "clips") clips += bucket.samples;
  }
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found.at("clips/5x16x16")->entries, (std::vector<int64_t>{0, 6}));
  EXPECT_EQ(found.at("clips/5x8x32")->entries, (std::vector<int64_t>{1}));
  EXPECT_EQ(found.at("clips/1x8x32")->entries, (std::vector<int64_t>{3}));
  EXPECT_EQ(found.at("clips/5x16x16")->weight, 0.375);
  EXPECT_EQ(found.at("clips/5x16x16")->crop, 0.25);
  EXPECT_EQ(found.at("clips/5x16x16")->enlarged, 1);
  EXPECT_LE(std::abs(clips / low.expected_samples - 0.75), 1e-8);
  EXPECT_TRUE(mentions(bucket_report(plan), "clips/5x8x32"));
}

TEST(Buckets, WhatIsRefusedIsCountedWithItsReason) {
  auto catalogues = small_catalogues();
  catalogues[0].frames[1] = {5, 0, 0, 5};
  catalogues[0].sizes = {{}, {0, 0, 0, 0}};
  catalogues[0].fits = {{}, {{{5, 16, 16}, {}}}};
  catalogues[0].refused = {{}, {{"too dark", 2}}};
  const Plan plan = make_plan(small_config(), catalogues, small_geometry());
  EXPECT_EQ(plan.segments[1].refused.at("clips").at("too dark"), 2);
  EXPECT_TRUE(mentions(plan.segments[1].warnings.front(), "2 of 4 samples"));
  EXPECT_TRUE(mentions(plan.segments[1].warnings.front(), "2: too dark"));
  EXPECT_TRUE(mentions(bucket_report(plan), "refused: 2 of source clips: too dark"));
}

TEST(Plan, UnitsOfWeights) {
  Config config = small_config();
  config.weights = "tokens";
  const SegmentPlan by_tokens = make_plan(config, small_catalogues(), small_geometry()).segments[1];
  double clip_tokens = 0;
  for (const BucketPlan& bucket : by_tokens.buckets) {
    if (bucket.source == "clips") clip_tokens += bucket.samples * bucket.tokens;
  }
  EXPECT_LE(std::abs(clip_tokens / by_tokens.expected_tokens - 0.75), 1e-7);
  EXPECT_EQ(by_tokens.loss_denominator, by_tokens.expected_tokens);
  for (const BucketPlan& bucket : by_tokens.buckets)
    EXPECT_EQ(bucket.loss_weight, static_cast<double>(bucket.tokens)) << bucket.name;
  config.weights = "draws";
  const SegmentPlan by_draws = make_plan(config, small_catalogues(), small_geometry()).segments[1];
  EXPECT_LE(std::abs(by_draws.buckets[2].probability - 0.5625), 1e-8);
  config.weights = "bytes";
  EXPECT_TRUE(mentions(message_of([&] { make_plan(config, small_catalogues(), small_geometry()); }),
                       "bytes"));
}

TEST(Plan, WidthIsTheSmallestWithTheFullestDraws) {
  Config config = small_config();
  config.mesh.beat.flops = 3300;
  PlanOptions options;
  options.widths = {4, 2, 1};  // 4 does not divide the slot of 2
  SegmentPlan low = make_plan(config, small_catalogues(), small_geometry(), options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);  // 3264 on each of two, 6240 on one
  EXPECT_EQ(low.buckets[2].block, 1);
  EXPECT_EQ(low.buckets[0].width, 1);
  EXPECT_EQ(low.buckets[0].batch, 1);
  config.mesh.beat.flops = 100;  // nothing meets it: the nearest, one sample, and a warning
  low = make_plan(config, small_catalogues(), small_geometry(), options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);
  EXPECT_EQ(low.buckets[2].batch, 1);
  EXPECT_TRUE(std::any_of(low.warnings.begin(), low.warnings.end(), [](const std::string& words) {
    return mentions(words, "bucket clips/5x16x16 takes 32.64 beats on 2 processes");
  }));
  config.mesh.beat.flops = 11000;  // one sample on one process each, or three in turn on both
  low = make_plan(config, small_catalogues(), small_geometry(), options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);
  EXPECT_EQ(low.buckets[2].block, 3);
  config.mesh.beat.flops = 100;
  config.stages[1].width["clips"] = 2;
  config.stages[1].batch["clips"] = 3;
  low = make_plan(config, small_catalogues(), small_geometry(), options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);
  EXPECT_EQ(low.buckets[2].block, 3);
}

TEST(Plan, MemoryBoundsWidthAndBatch) {
  Config config = small_config();
  config.mesh.beat.flops = 1e9;
  const Geometry g = small_geometry();
  PlanOptions options;
  options.widths = {1, 2};
  const double one = activation_bytes(g, {5, 16, 16}, 1, 1, 4);
  options.memory_bytes = state_bytes(g, true) + 2.5 * one;
  SegmentPlan low = make_plan(config, small_catalogues(), g, options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 1);
  EXPECT_EQ(low.buckets[2].batch, 2);
  EXPECT_EQ(low.buckets[2].block, int64_t{2} * 2 * low.buckets[2].passes);
  options.widths = {1};
  config.mesh.beat.flops = 5 * 6240;  // two passes of two hold more than three of one
  low = make_plan(config, small_catalogues(), g, options).segments[1];
  EXPECT_EQ(low.buckets[2].passes * low.buckets[2].batch, 4);
  EXPECT_LE(low.buckets[2].cost, config.mesh.beat.flops);
  options.widths = {1, 2};
  config.mesh.beat.flops = 1e9;
  options.memory_bytes = state_bytes(g, true) + 0.9 * one;
  low = make_plan(config, small_catalogues(), g, options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);
  options.memory_bytes = state_bytes(g, true);
  EXPECT_TRUE(mentions(message_of([&] { make_plan(config, small_catalogues(), g, options); }),
                       "stages.image.sources.stills: one sample of stills/1x16x16 does not fit"));
}

TEST(Plan, BeatInSecondsNeedsTheDevicesSpeed) {
  Config config = small_config();
  config.mesh.beat = {};
  config.mesh.beat.seconds = 2;
  EXPECT_TRUE(mentions(message_of([&] { make_plan(config, small_catalogues(), small_geometry()); }),
                       "mesh.beat"));
  PlanOptions options;
  options.cost.flops_per_second = 3120;
  const Plan plan = make_plan(config, small_catalogues(), small_geometry(), options);
  EXPECT_EQ(plan.segments[1].buckets[0].batch, 2);
  config.mesh.device_flops = 6240;
  config.mesh.efficiency = 0.5;
  config.mesh.slot_gb_per_second = 1e-6;
  const Plan from_yaml = make_plan(config, small_catalogues(), small_geometry());
  EXPECT_EQ(from_yaml.options.cost.flops_per_second, 3120);
  EXPECT_EQ(from_yaml.options.cost.per_byte, 3.12);
  EXPECT_EQ(from_yaml.beat, plan.beat);
  EXPECT_EQ(options_of(plan.manifest()).cost.flops_per_second, 3120);
}

TEST(Plan, ABucketRunsOnWhileItsSamplesAreTheSame) {
  Config config = small_config();
  config.stages.push_back(small_stage("long", 9, {{"clips", 1}, {"stills", 1}}));
  config.stages.back().steps = 5;
  config.stages.push_back(config.stages.back());
  config.stages.back().name = "longer";
  auto catalogues = small_catalogues();
  catalogues[0].frames.push_back({9, 5, 1, 5});  // the long clip leaves the bucket of 5 frames
  catalogues[0].frames.push_back({9, 5, 1, 5});
  for (int i = 0; i < 2; ++i) catalogues[1].frames.push_back({1, 1});
  const Plan plan = make_plan(config, catalogues, small_geometry());
  std::vector<std::string> names;
  for (const Bucket& bucket : plan.buckets) names.push_back(bucket.name);
  EXPECT_EQ(names, (std::vector<std::string>{"stills/1x16x16", "clips/1x16x16", "clips/5x16x16",
                                             "clips/5x16x16@long", "clips/9x16x16"}));
  EXPECT_EQ(plan.segments[0].buckets[0].index, 0);
  EXPECT_EQ(plan.segments[3].buckets[3].name, "clips/9x16x16");
  for (int s = 0; s < 4; ++s)
    EXPECT_EQ(plan.segments[2].buckets[s].index, plan.segments[3].buckets[s].index);
}

TEST(Plan, Warns) {
  Config config = small_config();
  config.mesh.slots = 1;
  config.mesh.accumulate = 1;
  config.sources["stills"].max_epochs = 3;
  config.stages[1].objective.predict = "velocity";
  auto catalogues = small_catalogues();
  catalogues[0].frames[1][0] = 0;
  const Plan plan = make_plan(config, catalogues, small_geometry());
  const std::string report = report_text(report_of(plan));
  EXPECT_TRUE(mentions(report, "is missing from some steps")) << report;
  EXPECT_TRUE(mentions(report, "samples repeat within a draw"));
  EXPECT_TRUE(mentions(report, "1 of 4 samples cannot be used"));
  EXPECT_TRUE(mentions(report, "its max_epochs is 3"));
  EXPECT_TRUE(mentions(report, "a token holds 12 numbers, more than the model's width 2"));
}

TEST(Plan, MistakesAreNamed) {
  const auto broken = [](const std::function<void(Config&)>& change) {
    Config config = small_config();
    change(config);
    return message_of([&] { make_plan(config, small_catalogues(), small_geometry()); });
  };
  EXPECT_TRUE(mentions(broken([](Config& c) { c.stages[1].sources["films"] = 1; }),
                       "stages.low.sources.films"));
  EXPECT_TRUE(mentions(broken([](Config& c) {
                         c.stages[1].sources = {{"clips", 0}};
                       }),
                       "stages.low.sources"));
  EXPECT_TRUE(
      mentions(broken([](Config& c) { c.stages[1].sources["clips"] = -1; }), "stages.low.sources"));
  EXPECT_TRUE(
      mentions(broken([](Config& c) { c.stages[1].sources["clips"] = 1e-12; }), "billionth"));
  EXPECT_TRUE(
      mentions(broken([](Config& c) { c.stages[1].compute = 0; }), "neither steps nor compute"));
  EXPECT_TRUE(mentions(broken([](Config& c) { c.total_flops = 0; }), "total_flops"));
  EXPECT_TRUE(mentions(broken([](Config& c) { c.mesh.beat = {}; }), "stages.image.batch.stills"));
  EXPECT_TRUE(mentions(broken([](Config& c) { c.stages[1].batch["clips"] = 0; }),
                       "stages.low.batch.clips"));
  EXPECT_TRUE(mentions(broken([](Config& c) { c.stages[1].width["clips"] = 3; }),
                       "does not divide mesh.slot 2"));
  EXPECT_TRUE(mentions(broken([](Config& c) { c.stages[1].shape.height = 30; }), "height 30"));
  EXPECT_TRUE(mentions(broken([](Config& c) { c.mesh.slots = 0; }), "mesh.slots"));
  EXPECT_TRUE(mentions(broken([](Config& c) { c.stages.clear(); }), "stages"));
  auto empty = small_catalogues();
  empty[1].samples.clear();
  empty[1].frames = {{}, {}};
  EXPECT_TRUE(mentions(message_of([&] { make_plan(small_config(), empty, small_geometry()); }),
                       "no training sample"));
}

TEST(Manifest, IsTheSameForTheSameInputsAndHasItAll) {
  const nlohmann::json manifest = small_plan().manifest();
  EXPECT_EQ(small_plan().hash(), small_plan().hash());
  EXPECT_EQ(small_plan().hash(), sha256(manifest.dump()));
  // Written and read back it is the same text: numbers survive.
  EXPECT_EQ(nlohmann::json::parse(manifest.dump(1)).dump(), manifest.dump());
  const auto& bucket = manifest["segments"][1]["buckets"][2];
  EXPECT_EQ(bucket["name"], "clips/5x16x16");
  EXPECT_EQ(bucket["entries"], 3);
  EXPECT_EQ(bucket["upper"], "10000000000000000");
  EXPECT_EQ(bucket["pieces"], (nlohmann::json{{0, 0, 3}}));
  EXPECT_EQ(manifest["sources"][0]["digest"], "digest-of-clips");
  EXPECT_EQ(differs(manifest, manifest), "");
}

TEST(Manifest, DifferencesAreNamedInWords) {
  const nlohmann::json saved = small_plan().manifest();
  const auto difference =
      [&](const std::function<void(Config&, std::vector<SourceCatalogue>&)>& change) {
        Config config = small_config();
        auto catalogues = small_catalogues();
        change(config, catalogues);
        return differs(saved, make_plan(config, catalogues, small_geometry()).manifest());
      };
  EXPECT_EQ(difference([](Config& c, auto&) { c.run.seed = 8; }), "seed was 7, is now 8");
  EXPECT_EQ(difference([](Config& c, auto&) { c.stages[0].steps = 21; }),
            "segment 1 (image): steps was 20, is now 21");
  EXPECT_EQ(difference([](Config& c, auto&) { c.stages[1].batch["clips"] = 4; }),
            "segment 2 (low), bucket clips/1x16x16: batch was 2, is now 4");
  nlohmann::json only_derived = saved;
  only_derived["segments"][1]["buckets"][0]["rate"] = 1;
  EXPECT_TRUE(mentions(differs(saved, only_derived), "rate was")) << differs(saved, only_derived);
  EXPECT_EQ(difference([](Config&, auto& s) { s[0].digest = "other"; }),
            "source clips: digest was \"digest-of-clips\", is now \"other\"");
  EXPECT_EQ(difference([](Config& c, auto&) { c.stages.pop_back(); }),
            "segments was 2 entries, is now 1 entries");
  EXPECT_TRUE(
      mentions(difference([](Config&, auto& s) { s[0].samples[0] = -1; }), "entries_sha256"));
  EXPECT_EQ(differs(nlohmann::json::object(), saved), "the saved manifest has no format");
  EXPECT_THROW(options_of(nlohmann::json::object()), DataError);
}

TEST(Plan, ASourceMayHaveAShapeOfItsOwn) {
  Config config = small_config();
  config.stages[1].shapes["stills"] = {1, 32, 16};
  const SegmentPlan low = make_plan(config, small_catalogues(), small_geometry()).segments[1];
  std::vector<std::string> names;
  for (const BucketPlan& bucket : low.buckets) names.push_back(bucket.name);
  EXPECT_EQ(names, (std::vector<std::string>{"clips/1x16x16", "clips/5x16x16", "stills/1x32x16"}));
  EXPECT_EQ(low.buckets[2].tokens, 8);
}

TEST(Report, ShowsStagesBucketsAndTotals) {
  const Plan plan = small_plan();
  const std::string report = report_text(report_of(plan));
  for (const char* part : {"run small: seed 7, 4 slots of 2", "stage 1 image: 20 steps",
                           "stage 2 low: 34 steps", "clips/5x16x16", "equal tokens, width 1", "iid",
                           "drift", "run: 54 steps", "source stills: 2 training samples"}) {
    EXPECT_TRUE(mentions(report, part)) << part << "\n" << report;
  }
  EXPECT_EQ(short_number(0, "B"), "0 B");
  EXPECT_EQ(short_number(999, "B"), "999 B");
  EXPECT_EQ(short_number(1.5e13, "FLOP"), "15.0 TFLOP");
  EXPECT_EQ(short_number(999999, "B"), "1.00 MB");
}

}  // namespace
}  // namespace pendulum
