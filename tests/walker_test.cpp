// The walk through the plan: the same on any number of processes, from any position; and the loss
// that it makes unbiased.
#include "pendulum/walker.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <deque>
#include <set>

#include "core/error.h"
#include "plan_example.h"

namespace pendulum {
namespace {

std::vector<StepPlan> walk_all(PlanWalker& walker) {
  std::vector<StepPlan> out;
  while (!walker.done()) out.push_back(walker.next());
  return out;
}

TEST(Walker, VisitsEveryStepOfEverySegment) {
  const Plan plan = small_plan();
  PlanWalker walker(plan);
  const std::vector<StepPlan> steps = walk_all(walker);
  ASSERT_EQ(steps.size(), 54u);
  EXPECT_EQ(steps[19].segment, 0);
  EXPECT_EQ(steps[20].segment, 1);
  EXPECT_EQ(steps[20].step, 0);
  EXPECT_EQ(steps[20].first_t, 0);
  EXPECT_EQ(steps[53].first_t, 33 * 3);
  EXPECT_EQ(walker.position(), (Position{2, 0}));
  EXPECT_THROW(walker.next(), Error);
  uint64_t running = 0;
  for (const StepPlan& step : steps) {
    ASSERT_EQ(step.draws.size(), 12u);
    for (int i = 0; i < 12; ++i) EXPECT_EQ(step.draws[i].slot, i % 4);
    for (const uint64_t digest : step.micro_digests) running = draw(running, digest);
    EXPECT_EQ(step.digest, running);
  }
  // Stills go on in the second stage where the first left off.
  int64_t next = 0;
  for (const StepPlan& step : steps) {
    for (const Draw& draw : step.draws) {
      if (plan.segments[step.segment].buckets[draw.bucket].source != "stills") continue;
      for (const PlannedSample& sample : draw.samples) EXPECT_EQ(sample.ordinal, next++);
    }
  }
  EXPECT_EQ(walker.cursors().at("stills/1x16x16"), next);
}

TEST(Invariant6, SeekAnywhereContinuesTheSameSequence) {
  const Plan plan = small_plan();
  PlanWalker whole(plan);
  std::vector<std::map<std::string, int64_t>> cursors{whole.cursors()};
  std::vector<StepPlan> steps;
  while (!whole.done()) {
    steps.push_back(whole.next());
    cursors.push_back(whole.cursors());
  }
  for (int64_t done = 0; done <= 54; ++done) {
    const Position position = position_after(plan, done);
    EXPECT_EQ(steps_before(plan, position), done);
    EXPECT_EQ(cursors_at(plan, position), cursors[done]);
    PlanWalker walker(plan);
    walker.seek(position, done == 0 ? 0 : steps[done - 1].digest);
    EXPECT_EQ(walker.cursors(), cursors[done]);
    const std::vector<StepPlan> rest = walk_all(walker);
    ASSERT_EQ(static_cast<int64_t>(rest.size()), 54 - done);
    for (size_t i = 0; i < rest.size(); ++i) {
      ASSERT_EQ(rest[i].draws, steps[done + i].draws);
      ASSERT_EQ(rest[i].digest, steps[done + i].digest);
    }
  }
  PlanWalker walker(plan);
  walker.seek({0, 20}, 1);  // the end of a segment is the start of the next
  EXPECT_EQ(walker.position(), (Position{1, 0}));
  EXPECT_THROW(walker.seek({0, 21}, 0), Error);
  EXPECT_THROW(walker.seek({3, 0}, 0), Error);
  EXPECT_THROW(walker.seek({0, -1}, 0), Error);
}

// (segment, step, draw number, bucket, entries) as processed by physical slots that each look
// `prefetch` steps ahead.
using Handled = std::tuple<int, int64_t, int, int, std::vector<int64_t>>;

std::set<Handled> run_on(const Plan& plan, int physical_slots, int prefetch, int64_t resume_after,
                         int slots_after) {
  std::set<Handled> out;
  const int draws = plan.segments[0].draws_per_step();
  const auto run = [&](int count, Position from, int64_t steps) {
    for (int p = 0; p < count; ++p) {
      PlanWalker walker(plan);
      walker.seek(from, 0);
      std::deque<StepPlan> ahead;
      for (int64_t i = 0; i < steps; ++i) {
        while (!walker.done() && static_cast<int>(ahead.size()) <= prefetch)
          ahead.push_back(walker.next());
        const StepPlan step = std::move(ahead.front());
        ahead.pop_front();
        const std::vector<int> mine = draws_of(p, count, draws);
        EXPECT_LE(static_cast<int>(mine.size()), passes(count, draws));
        for (const int number : mine) {
          std::vector<int64_t> entries;
          for (const PlannedSample& sample : step.draws[number].samples)
            entries.push_back(sample.entry);
          EXPECT_TRUE(
              out.emplace(step.segment, step.step, number, step.draws[number].bucket, entries)
                  .second);
        }
      }
    }
  };
  run(physical_slots, {0, 0}, resume_after);
  run(slots_after, position_after(plan, resume_after), plan.total_steps() - resume_after);
  return out;
}

TEST(Invariant6, TheSameOnAnyNumberOfSlotsWithAnyPrefetchAcrossAResume) {
  const Plan plan = small_plan();
  const std::set<Handled> alone = run_on(plan, 1, 0, 0, 1);
  EXPECT_EQ(alone.size(), 54u * 12);
  for (const int slots : {1, 2, 4, 16}) {
    for (const int prefetch : {0, 1, 7, 1000})
      EXPECT_EQ(run_on(plan, slots, prefetch, 17, 5), alone) << slots;
    EXPECT_EQ(run_on(plan, slots, 3, 31, 2), alone);
  }
}

TEST(Walker, SeekingFarIsFast) {
  Plan plan = small_plan();
  plan.segments[0].steps = int64_t{1} << 50;
  PlanWalker walker(plan);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) walker.seek({0, (int64_t{1} << 49) + i}, 0);
  EXPECT_LE(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 1.0);
  // One bucket: 4 slots x 3 micro-steps x a block of 4 per step.
  EXPECT_EQ(walker.cursors().at("stills/1x16x16"), ((int64_t{1} << 49) + 99) * 48);
}

TEST(WalkerInvariant7, EveryEntryOncePerEpochAcrossStages) {
  const Plan plan = small_plan();
  PlanWalker walker(plan);
  std::map<std::pair<int, int64_t>, std::multiset<int64_t>> seen;
  std::map<int, int64_t> last;
  for (const StepPlan& step : walk_all(walker)) {
    for (const Draw& draw : step.draws) {
      const int index = plan.segments[step.segment].buckets[draw.bucket].index;
      for (const PlannedSample& sample : draw.samples) {
        seen[{index, sample.epoch}].insert(sample.entry);
        last[index] = std::max(last[index], sample.epoch);
      }
    }
  }
  for (const auto& [key, entries] : seen) {
    const std::set<int64_t> distinct(entries.begin(), entries.end());
    EXPECT_EQ(distinct.size(), entries.size());
    if (key.second == last[key.first]) continue;
    EXPECT_EQ(static_cast<int64_t>(entries.size()), plan.buckets[key.first].pieces[0].size);
  }
}

// Three sources of very different cost; the rare one has the largest loss.
struct Toy {
  std::vector<double> weights{.77, .20, .03}, losses{1, 4, 50};
  std::vector<int64_t> block{64, 8, 1};
  double truth() const { return .77 * 1 + .20 * 4 + .03 * 50; }
};

TEST(Invariant8, TheConstantDenominatorGivesTheMixturesMean) {
  const Toy toy;
  const int slots = 2, accumulate = 1, steps = 4000;
  const Segment segment(7, 0, slots, 4, raw_rates(toy.weights, toy.block, {}, RateUnit::samples),
                        toy.block);
  double expected_samples = 0, lower = 0;
  for (int s = 0; s < 3; ++s) {
    const double upper = std::ldexp(static_cast<double>(segment.upper()[s]), -64);
    expected_samples += accumulate * slots * (upper - lower) * static_cast<double>(toy.block[s]);
    lower = upper;
  }
  double constant = 0, by_samples = 0, by_slots = 0;
  Swing swing;
  for (int step = 0; step < steps; ++step) {
    double sum = 0, samples = 0, means = 0;
    for (int a = 0; a < accumulate; ++a) {
      for (const int s : segment.sources(step * accumulate + a, swing)) {
        sum += static_cast<double>(toy.block[s]) * toy.losses[s];
        samples += static_cast<double>(toy.block[s]);
        means += toy.losses[s];
      }
    }
    constant += sum / expected_samples / steps;
    by_samples += sum / samples / steps;
    by_slots += means / (slots * accumulate) / steps;
  }
  // Drift of at most 5 draws of each bucket over the whole run: sum of 5 B l over steps x expected
  // samples.
  double bound = 0;
  for (int s = 0; s < 3; ++s)
    bound += 5 * static_cast<double>(toy.block[s]) * toy.losses[s] / (steps * expected_samples);
  EXPECT_LE(std::abs(constant - toy.truth()), bound);
  EXPECT_GE(std::abs(by_samples - toy.truth()),
            0.05 * toy.truth());         // this step's number of samples
  EXPECT_GE(by_slots, 3 * toy.truth());  // mean of means: the rare source dominates
}

TEST(World, DrawsAreDealtByNumber) {
  EXPECT_EQ(draws_of(0, 1, 3), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(draws_of(1, 4, 12), (std::vector<int>{1, 5, 9}));
  EXPECT_EQ(draws_of(4, 5, 12), (std::vector<int>{4, 9}));
  EXPECT_EQ(draws_of(13, 16, 12), (std::vector<int>{}));
  EXPECT_EQ(passes(5, 12), 3);
  EXPECT_EQ(passes(16, 12), 1);
  EXPECT_THROW(draws_of(4, 4, 12), Error);
}

TEST(World, SizesThatFitAndOthers) {
  MeshConfig mesh;
  mesh.slot = 8;
  mesh.slots = 4;
  mesh.accumulate = 2;
  const auto layout = [&](int processes) {
    const WorldLayout l = lay_out_world(processes, mesh);
    return std::pair(l.physical_slots, l.processes_per_slot);
  };
  EXPECT_EQ(layout(1), std::pair(1, 1));
  EXPECT_EQ(layout(8), std::pair(1, 8));
  EXPECT_EQ(layout(64), std::pair(8, 8));
  EXPECT_EQ(layout(4), std::pair(1, 4));
  EXPECT_EQ(layout(12), std::pair(3, 4));
  EXPECT_EQ(lay_out_world(16, mesh).warning, "");
  EXPECT_NE(lay_out_world(24, mesh).warning.find("1 of 9 passes are empty"), std::string::npos);
  for (const int bad : {0, -1, 11, 65, 72})
    EXPECT_THROW(lay_out_world(bad, mesh), ConfigError) << bad;
  try {
    lay_out_world(72, mesh);
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("64"), std::string::npos) << error.what();
  }
  MeshConfig small;
  small.slots = 3;
  try {
    lay_out_world(4, small);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("Possible: 1, 2, 3"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace pendulum
