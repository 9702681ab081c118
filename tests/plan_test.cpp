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
#include "error_message.h"
#include "pendulum/report.h"
#include "plan_example.h"

namespace pendulum {
namespace {

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
  options.memory_bytes = state_bytes(g, {.has_average = true}) + 2.5 * one;
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
  options.memory_bytes = state_bytes(g, {.has_average = true}) + 0.9 * one;
  low = make_plan(config, small_catalogues(), g, options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);
  options.memory_bytes = state_bytes(g, {.has_average = true});
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

}  // namespace
}  // namespace pendulum
