// The plan against figures worked out by hand, its manifest, its warnings and the mistakes it must
// name.
#include "pendulum/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "pendulum/report.h"
#include "pendulum/simulator.h"
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
  EXPECT_EQ(communication_bytes(g, {5, 16, 16}, 2, 4), (2 + 2 + 4) * 32);
  EXPECT_EQ(communication_bytes(g, {5, 16, 16}, 2, 2), (2 + 2 + 8) * 16);
  g.heads = 2;
  EXPECT_EQ(communication_bytes(g, {5, 16, 16}, 2, 4), 8 * 16);
  EXPECT_EQ(communication_bytes(g, {5, 16, 16}, 1, 4), 0);
  g.activation_checkpointing = "selective";
  EXPECT_EQ(communication_bytes(g, {5, 16, 16}, 2, 4), 12 * 16);
  g.heads = 1;
  EXPECT_EQ(communication_bytes(g, {5, 16, 16}, 2, 4), (2 + 2 + 4) * 32);
  g.activation_checkpointing = "full";
  EXPECT_EQ(communication_bytes(g, {5, 16, 16}, 2, 4), (2 + 2 + 2 + 4) * 32);
  g = small_geometry();
  g.heads = 2;
  EXPECT_EQ(sample_cost(g, {5, 16, 16}, 2, 10, 4), 3120 + 1280);
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
}

TEST(Cost, DealtUpdatesHoldLess) {
  const Geometry g = small_geometry();
  const auto numbers = static_cast<double>(parameter_count(g));
  EXPECT_EQ(state_bytes(g, true, 1), 20 * numbers);  // weights, gradients, two moments, average
  EXPECT_EQ(state_bytes(g, false, 1), 16 * numbers);
  EXPECT_EQ(state_bytes(g, true, 4), (8 + 3) * numbers);
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

TEST(Plan, WidthIsTheSmallestThatMeetsTheBeat) {
  Config config = small_config();
  config.mesh.beat.flops = 3200;
  PlanOptions options;
  options.widths = {4, 2, 1};  // 4 does not divide the slot of 2
  SegmentPlan low = make_plan(config, small_catalogues(), small_geometry(), options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);  // 6240 / 2
  EXPECT_EQ(low.buckets[2].block, 1);
  EXPECT_EQ(low.buckets[0].width, 1);
  EXPECT_EQ(low.buckets[0].batch, 1);
  config.mesh.beat.flops = 100;  // nothing meets it: the smallest that fits, one sample
  low = make_plan(config, small_catalogues(), small_geometry(), options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 1);
  EXPECT_EQ(low.buckets[2].batch, 1);
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
  options.memory_bytes = state_bytes(g, true, 1) + 2.5 * one;
  SegmentPlan low = make_plan(config, small_catalogues(), g, options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 1);
  EXPECT_EQ(low.buckets[2].batch, 2);
  options.memory_bytes = state_bytes(g, true, 1) + 0.9 * one;
  low = make_plan(config, small_catalogues(), g, options).segments[1];
  EXPECT_EQ(low.buckets[2].width, 2);
  options.memory_bytes = state_bytes(g, true, 1);
  EXPECT_TRUE(mentions(message_of([&] { make_plan(config, small_catalogues(), g, options); }),
                       "does not fit the memory"));
}

TEST(Plan, BeatInSecondsNeedsTheDevicesSpeed) {
  Config config = small_config();
  config.mesh.beat = {};
  config.mesh.beat.seconds = 2;
  EXPECT_TRUE(mentions(message_of([&] { make_plan(config, small_catalogues(), small_geometry()); }),
                       "mesh.beat"));
  PlanOptions options;
  options.device_flops = 3120;
  const Plan plan = make_plan(config, small_catalogues(), small_geometry(), options);
  EXPECT_EQ(plan.segments[1].buckets[0].batch, 2);
  EXPECT_EQ(options_of(plan.manifest()).device_flops, 3120);
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
  const std::string report = plan_report(plan);
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

TEST(Simulator, BalanceAndMixtureOfAMixedRun) {
  // The mixture of the design's example: 256 x 256 stills to 720p clips of 121 frames on nodes
  // of 8.
  Geometry g{40, 5120, 13824, 256, 512, 4096, 8, 4, {1, 2, 2}, 16, true};
  Config config = small_config();
  config.mesh.slot = 8;
  config.mesh.slots = 8;
  config.mesh.accumulate = 4;
  config.mesh.beat.flops = training_flops(g, {121, 720, 1280}) / 8;
  const std::vector<std::tuple<std::string, Shape, double>> sources{{"a", {1, 256, 256}, .37},
                                                                    {"b", {1, 512, 512}, .23},
                                                                    {"c", {33, 256, 256}, .19},
                                                                    {"d", {121, 720, 1280}, .03}};
  Plan plan;
  {
    // One stage has one size, so the plan of mixed sizes is put together from stages of their own.
    std::vector<BucketPlan> buckets;
    for (const auto& [name, shape, weight] : sources) {
      Config one = config;
      StageConfig stage = small_stage("s", shape.frames, {{name, 1}});
      stage.shape = shape;
      stage.steps = 1000;
      one.stages = {stage};
      PlanOptions options;
      options.widths = {1, 2, 4, 8};
      plan = make_plan(
          one,
          {{name, "", {0, 1, 2, 3}, {{shape.frames, shape.frames, shape.frames, shape.frames}}}}, g,
          options);
      buckets.push_back(plan.segments[0].buckets[0]);
      buckets.back().weight = weight;
    }
    SegmentPlan& segment = plan.segments[0];
    std::vector<double> weights;
    std::vector<int64_t> block;
    double total = 0;
    for (BucketPlan& bucket : buckets) {
      weights.push_back(bucket.weight);
      block.push_back(bucket.block);
    }
    const auto raw = raw_rates(weights, block, {}, RateUnit::samples);
    for (const uint64_t r : raw) total += static_cast<double>(r);
    segment.expected_samples = 0;
    for (size_t s = 0; s < raw.size(); ++s) {
      buckets[s].rate = raw[s];
      buckets[s].probability = static_cast<double>(raw[s]) / total;
      buckets[s].samples = 32 * buckets[s].probability * static_cast<double>(block[s]);
      segment.expected_samples += buckets[s].samples;
    }
    segment.buckets = buckets;
  }
  EXPECT_EQ(plan.segments[0].buckets[3].width, 8);
  const Simulation simulation = simulate(plan, 0, 2000);
  ASSERT_EQ(simulation.schemes.size(), 5u);
  EXPECT_GE(simulation.schemes[0].utilisation, 0.8);
  EXPECT_LE(simulation.schemes[1].utilisation,
            0.3);  // one sample per slot: most wait for the one long clip
  EXPECT_LE(simulation.schemes[2].utilisation, simulation.schemes[3].utilisation);
  EXPECT_GE(simulation.schemes[3].micro_step,
            6 * simulation.schemes[0].micro_step);  // a whole clip on one process
  EXPECT_GE(simulation.worst_imbalance, simulation.mean_imbalance);
  EXPECT_GE(simulation.mean_imbalance, 1.0);
  EXPECT_LE(simulation.drift, 5.0);
  EXPECT_GE(simulation.iid_drift, 2 * simulation.drift);
  for (size_t s = 0; s < 4; ++s) {
    EXPECT_LE(std::abs(simulation.simulated_shares[s] - simulation.expected_shares[s]), 0.01);
  }
}

TEST(Report, ShowsStagesBucketsAndTotals) {
  const std::string report = plan_report(small_plan());
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
