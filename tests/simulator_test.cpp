// Layouts beside each other on the design's mixture: balance, speed, memory, drift, re-routing.
#include "pendulum/simulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "pendulum/draw_size.h"
#include "plan_example.h"

namespace pendulum {
namespace {

// 256 x 256 stills to 720p clips of 121 frames on nodes of 8, weights by draws.
Config mixed_config() {
  Config config;
  config.weights = "draws";
  config.mesh.slot = 8;
  config.mesh.slots = 8;
  config.mesh.accumulate = 8;
  config.mesh.dwell = 8;
  config.mesh.beat.seconds = 5.8;
  config.mesh.device = "cuda";
  config.mesh.device_flops = 989e12;
  config.mesh.efficiency = 0.4;
  config.mesh.device_memory_gb = 72;
  config.mesh.slot_gb_per_second = 360;
  config.mesh.network_gb_per_second = 45;
  config.mesh.zero = 1;
  StageConfig stage = small_stage("mixed", 121, {});
  stage.shape = {121, 720, 1280};
  stage.steps = 1000;
  const std::vector<std::tuple<std::string, Shape, double>> sources{{"a", {1, 256, 256}, .37},
                                                                    {"b", {1, 512, 512}, .23},
                                                                    {"c", {33, 256, 256}, .19},
                                                                    {"d", {121, 720, 1280}, .03}};
  for (const auto& [name, shape, weight] : sources) {
    config.sources[name] = {};
    stage.sources[name] = weight;
    stage.shapes[name] = shape;
  }
  config.stages = {stage};
  return config;
}

std::vector<SourceCatalogue> mixed_catalogues() {
  std::vector<SourceCatalogue> out;
  for (const auto& [name, frames] :
       {std::pair{"a", 1}, std::pair{"b", 1}, std::pair{"c", 33}, std::pair{"d", 121}}) {
    SourceCatalogue source{name, "", {}, {{}}};
    for (int i = 0; i < 20000; ++i) {
      source.samples.push_back(i);
      source.frames[0].push_back(frames);
    }
    out.push_back(source);
  }
  return out;
}

Geometry mixed_geometry() {
  Geometry g{30, 3072, 14336, 256, 512, 4096, 8, 4, {1, 2, 2}, 16, true};
  g.heads = 24;
  g.activation_checkpointing = "selective";
  return g;
}

Plan mixed_plan() { return make_plan(mixed_config(), mixed_catalogues(), mixed_geometry()); }

const LayoutResult& result(const Simulation& simulation, const std::string& beginning) {
  const auto found =
      std::find_if(simulation.layouts.begin(), simulation.layouts.end(),
                   [&](const LayoutResult& layout) { return layout.name.starts_with(beginning); });
  EXPECT_NE(found, simulation.layouts.end()) << beginning;
  return *found;
}

TEST(Simulator, LayoutsOnTheMixedRun) {
  const Plan plan = mixed_plan();
  const SegmentPlan& segment = plan.segments[0];
  EXPECT_EQ(segment.buckets[0].width, 1);
  EXPECT_EQ(segment.buckets[3].width, 8);
  const Simulation simulation = simulate(plan, 0, 4000);
  const LayoutResult& own = simulation.layouts.front();
  EXPECT_EQ(own.name, "pendulum");
  EXPECT_GE(own.balance, 0.9);
  EXPECT_EQ(own.missing, 0);
  const LayoutResult& single = result(simulation, "iid, one sample");
  EXPECT_LE(single.balance, 0.6);  // most wait for the longest
  EXPECT_GE(single.cost_per_sample, 3 * own.cost_per_sample);
  // A whole clip on one process: it does not fit, and lasts nearly eight times as long.
  const LayoutResult& alone = result(simulation, "equal cost, width 1");
  EXPECT_FALSE(alone.fits);
  EXPECT_GE(alone.micro_step, 6 * own.micro_step);
  EXPECT_LE(result(simulation, "equal tokens").balance, alone.balance);
  EXPECT_FALSE(result(simulation, "equal tokens").fits);
  // Every still pays for text and exchange on several processes.
  const LayoutResult& together = result(simulation, "equal cost, width 4");
  EXPECT_TRUE(together.fits);
  EXPECT_GE(together.cost_per_sample, 1.2 * own.cost_per_sample);
  EXPECT_GE(result(simulation, "re-routing, one width").cost_per_sample, 1.2 * own.cost_per_sample);
  // The same draws in every slot are balanced, and leave most buckets out of most steps.
  EXPECT_GE(result(simulation, "one bucket").balance, 1 - 1e-12);
  EXPECT_GE(result(simulation, "one bucket").missing, 0.2);
  EXPECT_GE(simulation.worst_imbalance, simulation.mean_imbalance);
  EXPECT_GE(simulation.mean_imbalance, 1.0);
  for (size_t s = 0; s < 4; ++s)
    EXPECT_LE(std::abs(simulation.simulated_shares[s] - simulation.expected_shares[s]), 0.01);
}

TEST(Simulator, LayoutsTrainOnTheSameMixture) {
  const Plan plan = mixed_plan();
  const SegmentPlan& segment = plan.segments[0];
  for (const Layout& layout : layouts_of(plan, 0)) {
    const Segment rule = rule_of(plan, segment, 0, layout);
    double lower = 0, all = 0;
    std::vector<double> samples;
    for (size_t s = 0; s < segment.buckets.size(); ++s) {
      const double upper = std::ldexp(static_cast<double>(rule.upper()[s]), -64);
      samples.push_back((upper - lower) * static_cast<double>(layout.loads[s].block));
      all += samples.back();
      lower = upper;
    }
    for (size_t s = 0; s < segment.buckets.size(); ++s) {
      const double asked = segment.buckets[s].samples / segment.expected_samples;
      // Weights are billionths; rates are exact to 2^-32 of themselves.
      EXPECT_LE(std::abs(samples[s] / all - asked), 2e-9) << layout.name << " " << s;
    }
  }
}

TEST(Simulator, DriftOverAHundredThousandMicroSteps) {
  const Simulation simulation = simulate(mixed_plan(), 0, 100'000);
  EXPECT_EQ(simulation.micro_steps, 100'000);
  EXPECT_LE(simulation.drift, 5.0);
  EXPECT_GE(simulation.iid_drift, 50.0);  // a standard deviation is 400
  double largest = 0;
  for (const auto& point : simulation.drift_curve) largest = std::max(largest, point.pendulum);
  EXPECT_LE(largest, simulation.drift);
  EXPECT_GE(simulation.drift_curve.size(), 250u);
}

TEST(Simulator, AMicroStepByHand) {
  const Plan plan = mixed_plan();
  const SegmentPlan& segment = plan.segments[0];
  Simulation simulation = simulate(plan, 0, segment.accumulate);
  double slowest = 0, mean = 0, samples = 0, exchange = 0;
  const Segment rule = segment.segment(plan.seed, 0);
  for (int t = 0; t < segment.accumulate; ++t) {
    double longest = 0;
    for (const int s : rule.sources(t)) {
      const BucketPlan& bucket = segment.buckets[s];
      longest = std::max(longest, bucket.cost);
      mean += bucket.cost / segment.slots;
      samples += static_cast<double>(bucket.block);
      const Traffic sent = sample_traffic(plan.geometry, bucket.shape, bucket.width, 2);
      exchange +=
          bucket.passes * bucket.batch * sent.bytes() * plan.options.cost.per_byte / segment.slots;
    }
    slowest += longest;
  }
  // 64 processes sum gradients once per expected number of samples.
  const double update = samples / segment.expected_samples * update_bytes(plan.geometry, 64) *
                        plan.options.cost.per_network_byte;
  const LayoutResult& own = simulation.layouts.front();
  EXPECT_LE(std::abs(own.cost_per_sample * samples / (slowest + update) - 1), 1e-12);
  EXPECT_LE(std::abs(own.balance * slowest / mean - 1), 1e-12);
  EXPECT_LE(std::abs(own.exchange * (slowest + update) / (exchange + update) - 1), 1e-12);
}

// The same greedy rule, looking at every group for every sample.
double plain_slowest(const Plan& plan, const SegmentPlan& segment, const std::vector<Bags>& bags,
                     const std::vector<int64_t>& samples) {
  std::vector<std::pair<double, int>> groups;  // load, width
  for (const Bags& bag : bags) {
    const double calls =
        sample_traffic(plan.geometry, segment.buckets[0].shape, bag.width, 2).calls;
    for (int64_t i = 0; i < bag.count; ++i)
      groups.emplace_back(plan.options.cost.per_pass + calls * plan.options.cost.per_call,
                          bag.width);
  }
  for (size_t s = samples.size(); s-- > 0;) {
    for (int64_t i = 0; i < samples[s]; ++i) {
      const auto finish = [&](const std::pair<double, int>& group) {
        const Shape& shape = segment.buckets[s].shape;
        if (samples_in_memory(plan, shape, group.second) < 1) return 1e300;
        return group.first + sample_cost(plan.geometry, shape, group.second, plan.options.cost, 2);
      };
      auto& first =
          *std::min_element(groups.begin(), groups.end(),
                            [&](const auto& a, const auto& b) { return finish(a) < finish(b); });
      first.first = finish(first);
    }
  }
  double slowest = 0;
  for (const auto& group : groups) slowest = std::max(slowest, group.first);
  return slowest;
}

TEST(Rerouting, IsGreedyAndCountsWhatItMoves) {
  Plan plan = mixed_plan();
  plan.options.cost.per_call = 1e9;
  const SegmentPlan& segment = plan.segments[0];
  const std::vector<int64_t> samples{301, 53, 23, 2};
  for (const std::vector<Bags>& bags :
       {std::vector<Bags>{{8, 8}}, std::vector<Bags>{{8, 3}, {1, 40}}}) {
    const Rerouted dealt = reroute(plan, segment, bags, samples);
    double moved = 0;
    for (size_t s = 0; s < samples.size(); ++s) {
      // Hidden states there and back, forward and backward, and the text once.
      const double numbers =
          4.0 * static_cast<double>(segment.buckets[s].tokens) * 3072 + 512 * 4096;
      moved +=
          static_cast<double>(samples[s]) * numbers * 2 / 64 * plan.options.cost.per_network_byte;
    }
    const double plain = plain_slowest(plan, segment, bags, samples);
    EXPECT_LE(std::abs(dealt.slowest / (plain + moved) - 1), 1e-9);
    EXPECT_LE(dealt.mean, dealt.slowest);
    EXPECT_GE(dealt.exchange, moved);
    EXPECT_LE(dealt.exchange, dealt.mean);
  }
}

}  // namespace
}  // namespace pendulum
