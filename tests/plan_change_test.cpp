// A plan that changes during the run: new weights, sources, samples; what was walked stays.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "pendulum/walker.h"
#include "plan_example.h"

namespace pendulum {
namespace {

struct Walked {
  uint64_t digest = 0;
  std::vector<StepPlan> steps;
};

Walked walk(const Plan& plan) {
  Walked out;
  PlanWalker walker(plan);
  while (!walker.done()) out.steps.push_back(walker.next());
  out.digest = walker.running_digest();
  return out;
}

Plan go_on(const Plan& saved, int64_t finished, const Config& config,
           const std::vector<SourceCatalogue>& catalogues) {
  // As a resume does it: through the manifest.
  const nlohmann::json manifest = saved.manifest();
  Plan plan =
      continue_plan(plan_from_manifest(manifest), finished, config, catalogues, small_geometry());
  EXPECT_EQ(breaks(manifest, plan.manifest(), finished), "");
  return plan;
}

// Two clips of 5 frames in a second part.
std::vector<SourceCatalogue> grown_catalogues() {
  auto out = small_catalogues();
  out[0].parts = {"digest-of-clips", "more"};
  out[0].digest = "digest-of-both";
  out[0].samples = {0, 1, 3, 6, 7, 8};
  out[0].frames = {{}, {5, 5, 1, 5, 5, 5}};
  return out;
}

const BucketPlan& find_bucket(const SegmentPlan& segment, const std::string& name) {
  for (const BucketPlan& bucket : segment.buckets) {
    if (bucket.name == name) return bucket;
  }
  throw Error("no such bucket");
}

TEST(PlanChange, TheManifestHoldsThePlan) {
  const Plan plan = small_plan();
  const Plan read = plan_from_manifest(plan.manifest());
  EXPECT_EQ(read.manifest(), [&] {
    nlohmann::json manifest = plan.manifest();
    for (auto& source : manifest["sources"]) source["samples"] = 0;  // the plan alone needs none
    return manifest;
  }());
  EXPECT_EQ(walk(read).digest, walk(plan).digest);
  nlohmann::json manifest = plan.manifest();
  manifest["segments"][1]["buckets"][0]["samples"] = "0-2";
  EXPECT_THROW(plan_from_manifest(manifest), DataError);
  manifest["segments"][1]["buckets"][0]["samples"] = "x";
  EXPECT_THROW(plan_from_manifest(manifest), DataError);
  manifest["format"] = 1;
  EXPECT_THROW(plan_from_manifest(manifest), DataError);
  EXPECT_THROW(plan_from_manifest(nlohmann::json::object()), DataError);
}

TEST(PlanChange, NothingChangedIsTheSamePlan) {
  const Plan plan = small_plan();
  for (int64_t finished = 0; finished <= plan.total_steps(); ++finished)
    EXPECT_EQ(go_on(plan, finished, small_config(), small_catalogues()).manifest(), plan.manifest())
        << finished;
}

TEST(PlanChange, NewWeightsBeginASegment) {
  const Plan plan = small_plan();
  const Walked before = walk(plan);
  Config config = small_config();
  config.stages[1].sources = {{"clips", .5}, {"stills", .5}};
  config.stages[1].steps = 40;
  config.stages[1].compute = 0;
  const Plan changed = go_on(plan, 25, config, small_catalogues());
  ASSERT_EQ(changed.segments.size(), 3u);
  EXPECT_EQ(changed.segments[1].steps, 5);
  EXPECT_EQ(changed.segments[2].steps, 35);
  EXPECT_EQ(changed.segments[2].stage_step, 5);
  EXPECT_EQ(changed.stage_steps(1), 40);
  EXPECT_FALSE(changed.is_last_of_stage(1));
  ASSERT_EQ(changed.changes.size(), 1u);
  EXPECT_EQ(changed.changes[0].finished_steps, 25);
  EXPECT_EQ(changed.changes[0].what.back(), "stage low: steps were 34, are now 40");
  const Walked after = walk(changed);
  for (int i = 0; i < 25; ++i) EXPECT_EQ(after.steps[i].digest, before.steps[i].digest);
  EXPECT_EQ(after.steps[25].segment, 2);
  EXPECT_EQ(after.steps[25].first_t, 0);
  double clips = 0;
  for (const BucketPlan& bucket : changed.segments[2].buckets)
    clips += bucket.source == "clips" ? bucket.samples : 0;
  EXPECT_LE(std::abs(clips / changed.segments[2].expected_samples - 0.5), 1e-8);
  // Resumed later, and changed once more.
  EXPECT_EQ(go_on(changed, 30, config, small_catalogues()).manifest(), changed.manifest());
  config.stages[1].sources = {{"clips", 1}};
  const Plan again = go_on(changed, 30, config, small_catalogues());
  EXPECT_EQ(again.segments.size(), 4u);
  EXPECT_EQ(again.changes.size(), 2u);
  EXPECT_EQ(walk(again).steps[29].digest, after.steps[29].digest);
}

TEST(PlanChange, AChangeOfAStageToComeReplacesIt) {
  Config config = small_config();
  config.stages[1].sources = {{"clips", 1}};
  const Plan changed = go_on(small_plan(), 7, config, small_catalogues());
  ASSERT_EQ(changed.segments.size(), 2u);
  EXPECT_EQ(changed.segments[0].steps, 20);
  EXPECT_EQ(changed.segments[1].buckets.size(), 2u);
}

TEST(PlanChange, ANewSourceJoins) {
  Config config = small_config();
  config.sources["more"] = {};
  config.stages[1].sources["more"] = 1;
  auto catalogues = small_catalogues();
  catalogues.push_back({"more", "digest-of-more", {0, 1, 2}, {{}, {5, 5, 5}}});
  const Plan changed = go_on(small_plan(), 22, config, catalogues);
  ASSERT_EQ(changed.segments.size(), 3u);
  EXPECT_EQ(find_bucket(changed.segments[2], "more/5x16x16").entries.size(), 3u);
}

// Invariant 7 across additions: each entry once per epoch, additions from the next epoch on.
TEST(PlanChangeInvariant7, EveryEntryOncePerEpochAcrossAdditionsAndWithdrawals) {
  const Plan plan = small_plan();
  for (const int64_t finished : {0, 20, 21, 33, 50}) {
    auto catalogues = grown_catalogues();
    std::erase(catalogues[0].samples, 1);  // withdrawn
    catalogues[0].frames[1] = {5, 1, 5, 5, 5};
    const Plan changed = go_on(plan, finished, small_config(), catalogues);
    const BucketPlan& five = find_bucket(changed.segments.back(), "clips/5x16x16");
    EXPECT_EQ(five.entries, (std::vector<int64_t>{0, 1, 6, 7, 8}));
    EXPECT_EQ(five.withdrawn, (std::vector<int64_t>{1}));
    EXPECT_LE(std::abs(five.weight - .75 * 4 / 5), 1e-12);  // of what may be drawn
    std::map<int64_t, std::multiset<int64_t>> seen;
    for (const StepPlan& step : walk(changed).steps) {
      for (const Draw& draw : step.draws) {
        if (changed.segments[step.segment].buckets[draw.bucket].name != five.name) continue;
        for (const PlannedSample& sample : draw.samples) seen[sample.epoch].insert(sample.entry);
      }
    }
    const std::vector<Piece>& pieces = changed.buckets[five.index].pieces;
    ASSERT_EQ(pieces.size(), 2u);
    EXPECT_EQ(pieces[1].size, 5);
    for (const auto& [epoch, entries] : seen) {
      const std::set<int64_t> distinct(entries.begin(), entries.end());
      EXPECT_EQ(distinct.size(), entries.size()) << epoch;
      const int64_t size = epoch >= pieces[1].epoch ? 5 : 3;
      EXPECT_LT(*distinct.rbegin(), size);
      if (epoch != seen.rbegin()->first) {
        EXPECT_EQ(static_cast<int64_t>(entries.size()), size);
      }
    }
    // Back again: the tombstone is a sample once more.
    const Plan back =
        go_on(changed, std::max<int64_t>(finished, 51), small_config(), grown_catalogues());
    EXPECT_TRUE(find_bucket(back.segments.back(), five.name).withdrawn.empty());
  }
}

TEST(PlanChange, DataThatWasNotOnlyAddedToIsRefused) {
  auto catalogues = grown_catalogues();
  catalogues[0].parts = {"other", "more"};
  EXPECT_THROW(continue_plan(small_plan(), 22, small_config(), catalogues, small_geometry()),
               ConfigError);
}

// One bucket of two stages, which additions divide: the second is another bucket from then on.
TEST(PlanChange, StagesWhoseAdditionsDifferPart) {
  Config config = small_config();
  config.stages.push_back(small_stage("long", 9, {{"clips", 1}}));
  config.stages.back().steps = 5;
  auto catalogues = small_catalogues();
  catalogues[0].frames.push_back({5, 5, 1, 5});
  catalogues[1].frames.push_back({});
  const Plan plan = make_plan(config, catalogues, small_geometry());
  ASSERT_EQ(find_bucket(plan.segments[2], "clips/5x16x16").entries.size(), 3u);
  auto grown = grown_catalogues();
  grown[0].frames.push_back({5, 5, 1, 5, 9, 5});
  grown[1].frames.push_back({});
  const Plan changed = go_on(plan, 22, config, grown);
  const SegmentPlan& last = changed.segments.back();
  EXPECT_EQ(find_bucket(last, "clips/5x16x16@long").entries, (std::vector<int64_t>{0, 1, 6, 8}));
  EXPECT_EQ(find_bucket(last, "clips/9x16x16").entries, (std::vector<int64_t>{7}));
}

}  // namespace
}  // namespace pendulum
