// What dealt weights and gradients send: by hand, and beside the bytes that training a small model
// really sends.
#include "pendulum/dealt_traffic.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <mutex>
#include <optional>

#include <nlohmann/json.hpp>

#include "comm/hand_over.h"
#include "comm/loopback.h"
#include "error_message.h"
#include "model/geometry.h"
#include "model/parameters.h"
#include "model/video_transformer.h"
#include "ops/random_tensor.h"
#include "pendulum/report.h"
#include "plan_example.h"
#include "shard/sharded_parameters.h"

namespace pendulum {
namespace {

MeshConfig mesh_of(int zero, int slot, int slots = 1, const std::string& within = "world") {
  MeshConfig mesh;
  mesh.zero = zero;
  mesh.slot = slot;
  mesh.slots = slots;
  mesh.zero_within = within;
  return mesh;
}

// A block has 94 numbers, 12 of them in its largest tensor; outside are 126, at most 24 in one.
TEST(DealtTraffic, OfTheSmallModelByHand) {
  Geometry g = small_geometry();
  g.layers = 3;
  ASSERT_EQ(block_parameters(g), 94);
  ASSERT_EQ(parameter_count(g), 3 * 94 + 126);
  // Over 4: parts of 94 / 4 and 126 / 4 numbers, 4 bytes each to 3 others.
  DealtTraffic sent = dealt_traffic(g, mesh_of(2, 4));
  EXPECT_EQ(sent.gathered, 0);
  EXPECT_EQ(sent.reduced, 12 * (31.5 + 3 * 23.5));
  EXPECT_EQ(sent.updated, sent.reduced);
  EXPECT_EQ(sent.summed, 0);
  EXPECT_EQ(sent.calls, 4);
  // Forward all units; backward the first two blocks again: the last one has stayed.
  sent = dealt_traffic(g, mesh_of(3, 4));
  EXPECT_EQ(sent.gathered, 12 * (31.5 + 5 * 23.5));
  EXPECT_EQ(sent.reduced, 12 * (31.5 + 3 * 23.5));
  EXPECT_EQ(sent.updated, 0);
  EXPECT_EQ(sent.calls, 6 + 4);
  // Over 16 the largest tensors decide.
  sent = dealt_traffic(g, mesh_of(3, 4, 4));
  EXPECT_FALSE(sent.is_within_slot);
  EXPECT_EQ(sent.gathered, 60 * (24 + 5 * 12));
  // In slots of 4, and then over 4 slots: two ways, three quarters of each part.
  sent = dealt_traffic(g, mesh_of(3, 4, 4, "slot"));
  EXPECT_TRUE(sent.is_within_slot);
  EXPECT_EQ(sent.gathered, 12 * (31.5 + 5 * 23.5));
  EXPECT_EQ(sent.summed, 8 * (31.5 + 3 * 23.5) * 3 / 4);
  CostModel model;
  model.per_byte = 10;
  model.per_network_byte = 1000;
  model.per_call = 7;
  EXPECT_EQ(pass_cost(sent, model), 10 * 12 * (63 + 8 * 23.5) + 7 * 10);
  EXPECT_EQ(step_cost(sent, model), 1000 * 6 * (31.5 + 3 * 23.5));
  sent = dealt_traffic(g, mesh_of(2, 4));
  EXPECT_EQ(step_cost(sent, model), 10 * 12 * (31.5 + 3 * 23.5));
}

TEST(DealtTraffic, WithoutDealingThereAreSumsAlone) {
  const Geometry g = small_geometry();
  for (const int zero : {0, 1}) {
    const DealtTraffic sent = dealt_traffic(g, mesh_of(zero, 2, 4));
    EXPECT_EQ(sent.in_pass(), 0);
    EXPECT_EQ(sent.calls, 0);
    EXPECT_EQ(sent.summed, update_bytes(g, 8));
  }
  // A slot of one process deals with nobody.
  const DealtTraffic alone = dealt_traffic(g, mesh_of(3, 1, 4, "slot"));
  EXPECT_EQ(alone.in_pass(), 0);
  EXPECT_EQ(alone.calls, 0);
  EXPECT_EQ(alone.summed, update_bytes(g, 4));
}

// Ten blocks, of which the last four are reached; 4 numbers of an adapter train in each.
TEST(DealtTraffic, OfAPartThatTrains) {
  Geometry g = small_geometry();
  g.layers = 10;
  g.part = TrainedPart{.parameters = 16,
                       .adapters = 20,
                       .in_block = 4,
                       .frozen_in_block = 50,
                       .first_block = 6,
                       .forward = {},
                       .backward = {}};
  DealtTraffic sent = dealt_traffic(g, mesh_of(3, 4));
  EXPECT_EQ(sent.reduced, 12 * 4);
  EXPECT_EQ(sent.gathered, 12 * (31.5 + (10 + 3) * (94 + 2) / 4.0));
  g.frozen_precision = "bf16";  // stored beside the parameters, on every process
  sent = dealt_traffic(g, mesh_of(3, 4));
  EXPECT_EQ(sent.gathered, 12 * (31.5 + (10 + 3) * (94 + 2 - 50) / 4.0));
}

TEST(DealtTraffic, IsInTheCostOfAPassAndInTheReport) {
  Config config = small_config();
  PlanOptions options;
  options.cost.flops_per_second = 1e9;
  options.cost.per_byte = 2;
  options.cost.per_network_byte = 3;
  config.mesh.beat.flops = 62400;
  const auto plan = [&](int zero, const std::string& within) {
    config.mesh.zero = zero;
    config.mesh.zero_within = within;
    return make_plan(config, small_catalogues(), small_geometry(), options);
  };
  const Plan none = plan(0, "slot"), one = plan(1, "slot"), three = plan(3, "slot");
  EXPECT_EQ(one.manifest(), none.manifest());
  const BucketPlan &before = none.segments[1].buckets.back(),
                   &after = three.segments[1].buckets.back();
  const double pass = pass_cost(three.traffic, options.cost);
  EXPECT_EQ(pass, 2 * three.traffic.in_pass());
  EXPECT_EQ(after.cost, pass + pass_cost(small_geometry(), after.shape, after.width, after.batch,
                                         options.cost, options.number_bytes));
  // A beat holds the less.
  EXPECT_LT(after.batch, before.batch);
  EXPECT_GT(simulate(three, 1, 100).layouts[0].exchange, simulate(one, 1, 100).layouts[0].exchange);
  EXPECT_EQ(draw_traffic(three, after),
            attention_bytes(three, after) + after.passes * three.traffic.in_pass());
  const PlanReport report = report_of(three);
  const std::string words = "mesh.zero 3, over 2 processes of a slot: every process sends ";
  for (const std::string& page : {report_text(report), report_html(report)})
    EXPECT_TRUE(mentions(page, words)) << page;
  EXPECT_EQ(report_json(report)["traffic"]["weights_per_pass"], three.traffic.gathered);
  EXPECT_TRUE(mentions(report_text(report_of(none)), "of gradients and weights in a step"));
}

// Bytes that one rank sends, by kind of call.
struct Counted {
  double gathered = 0, reduced = 0;
};

// Passes calls on to another communicator and counts them.
class Counting : public Communicator {
 public:
  Counting(std::unique_ptr<Communicator> owned, Communicator& below, Counted* counted)
      : Communicator(below.rank(), below.size(), below.name()),
        owned_(std::move(owned)),
        below_(below),
        counted_(counted) {}

 protected:
  std::shared_ptr<PendingCall> start(Call call, Stream /*stream*/) override {
    count(call);
    return handed_over(below_, std::move(call));
  }
  std::unique_ptr<Communicator> make_group(const Call& /*call*/, int color, int key) override {
    std::unique_ptr<Communicator> group = below_.split(color, key);
    Communicator& same = *group;
    return std::make_unique<Counting>(std::move(group), same, counted_);
  }

 private:
  void count(const Call& call) {
    switch (call.kind) {
      case CallKind::all_gather:
        counted_->gathered += static_cast<double>(call.send.nbytes()) * (size() - 1);
        return;
      case CallKind::reduce_scatter:
        counted_->reduced += static_cast<double>(call.receive.nbytes()) * (size() - 1);
        return;
      case CallKind::all_reduce:
        return;
      default:
        throw Error("a call that this test does not know: " + call.description());
    }
  }

  const std::unique_ptr<Communicator> owned_;
  Communicator& below_;
  Counted* const counted_;
};

WanConfig measured_wan() {
  WanConfig wan;
  wan.layers = 4;
  wan.heads = 2;
  wan.head_dim = 32;
  wan.ffn_dim = 256;
  wan.freq_dim = 64;
  wan.in_channels = wan.out_channels = 3;
  wan.text_dim = 96;
  return wan;
}

// What rank 0 of `ranks` sends in one pass of a step of several, and to hand on what was updated.
struct Sent {
  Counted pass, update;
};
Sent traffic_of_training(int level, int ranks) {
  Sent sent;
  std::mutex mutex;
  run_loopback(ranks, [&](Communicator& below) {
    Counted counted;
    Counting world(nullptr, below, &counted);
    VideoTransformer model(measured_wan(), std::nullopt);
    {
      const std::lock_guard lock(mutex);
      randomise(model.parameters(), 5);
    }
    ShardedParameters weights(model.parameters(), world, {level, ranks, 0});
    model.set_observer(weights.observer());
    Sent mine;
    for (const bool is_last : {false, true}) {
      counted = {};
      weights.begin_pass(is_last);
      model
          .forward(random_tensor({1, 3, 1, 4, 6}, 1), at::tensor({120.0F}),
                   random_tensor({1, 4, 96}, 2))
          .sum()
          .backward();
      weights.end_pass();
      if (!is_last) mine.pass = counted;
    }
    weights.finish_gradients();
    counted = {};
    weights.gather();
    mine.update = counted;
    if (below.rank() == 0) sent = mine;
  });
  return sent;
}

// The longest part of a unit is what a greedy deal makes of its tensors: a little more than the
// larger of its share and its largest tensor.
void expect_near(double sent, double formula, const std::string& what) {
  EXPECT_GE(sent, formula * (1 - 1e-12)) << what;
  EXPECT_LE(sent, formula * 1.15) << what;
}

TEST(DealtTraffic, IsWhatTrainingSends) {
  Config config;
  const Geometry g = geometry(config, {3, 4, 4}, measured_wan());
  for (const int ranks : {2, 3, 4, 6}) {
    for (const int level : {1, 2, 3}) {
      const std::string what = text("level ", level, " over ", ranks);
      const Sent sent = traffic_of_training(level, ranks);
      const DealtTraffic formula = dealt_traffic(g, mesh_of(level, ranks));
      expect_near(sent.pass.gathered, formula.gathered, what + ", gathered");
      expect_near(sent.pass.reduced, formula.reduced, what + ", reduced");
      if (level > 1) expect_near(sent.update.gathered, formula.updated, what + ", updated");
    }
  }
}

}  // namespace
}  // namespace pendulum
