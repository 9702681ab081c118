// Replaying runs that were changed on their way: every plan is made again, and one that somebody
// rewrote is refused.
#include <fmt/ranges.h>

#include <utility>

#include "core/hash.h"
#include "provenance_run.h"

namespace pendulum {
namespace {

// A run that was changed twice: other weights after 3 steps, more clips and a longer stage after 5.
class ChangedRunTest : public ProvenanceTest {
 protected:
  static void SetUpTestSuite() {
    ProvenanceTest::SetUpTestSuite();
    SynthOptions synth;
    synth.stills = 4;
    synth.clips = 30;
    synth.seed = 9;
    synth.out = folder_ + "/more";
    synthesize(synth);
    std::ifstream drawn(synth.out + "/clips.jsonl");
    std::ofstream renamed(synth.out + "/renamed.jsonl");
    for (std::string words; std::getline(drawn, words);) {
      json line = json::parse(words);
      line["id"] = "more-" + line["id"].get<std::string>();
      renamed << line << "\n";
    }
    renamed.close();
    PackOptions options;
    options.input = synth.out + "/renamed.jsonl";
    options.out = folder_ + "/more.pack";
    pack(options);
  }

  static json said(const std::string& config) { return {{"config", config}}; }
  static RunPart changed(const RunPart& before, int64_t finished, const std::string& config) {
    json line = said(config);
    line["finished_steps"] = finished;
    return plan_again(line, &before.plan);
  }

  const std::string first_ = yaml(), second_ = yaml("1"),
                    third_ = yaml("1", "clips.pack, " + folder_ + "/more.pack", 40);
  const RunPart a_ = plan_again(said(first_), nullptr), b_ = changed(a_, 3, second_),
                c_ = changed(b_, 5, third_);

  std::vector<Part> parts() const {
    return {{0, 3, {}, {}, {}, &a_, said(first_)},
            {3, 2, {}, {}, {}, &b_, said(second_)},
            {5, 35, {}, {}, {}, &c_, said(third_)}};
  }

  // The same run by someone who changed the plan of its second part, wrote the log that this plan
  // gives, and let the last plan go on from it.
  std::string fault_of(const std::function<void(json&)>& change) {
    json manifest = b_.plan.manifest();
    change(manifest);
    const RunPart forged{b_.sources, plan_from_manifest(manifest)};
    const RunPart last = changed(forged, 5, third_);
    json event = said(second_);
    event["plan_hash"] = sha256(manifest.dump());
    fs::remove(path_);
    write({{0, 3, {}, {}, {}, &a_, said(first_)},
           {3, 2, {}, {}, {}, &forged, event},
           {5, 5, {}, {}, {}, &last, said(third_)}});
    keep(last.plan.manifest());
    return fault();
  }
};

// The bucket of a segment that draws from a source.
json& bucket_of(json& manifest, size_t segment, const std::string& source) {
  for (json& bucket : manifest["segments"][segment]["buckets"])
    if (bucket["source"] == source) return bucket;
  throw Error("no bucket of " + source);
}

// Entries in another order, or others; with the checksum that a careful forger adds.
void set_entries(json& bucket, const std::vector<int64_t>& numbers) {
  std::string decimal;
  for (const int64_t number : numbers) decimal += fmt::format("{}\n", number);
  bucket["samples"] = fmt::format("{}", fmt::join(numbers, ","));
  bucket["entries_sha256"] = sha256(decimal);
}

TEST_F(ChangedRunTest, EveryPlanIsMadeAgain) {
  ASSERT_EQ(b_.plan.changes.size(), 1u);
  ASSERT_EQ(c_.plan.changes.size(), 2u);
  write(parts());
  keep(c_.plan.manifest());
  EXPECT_EQ(fault(), "");
  std::map<std::string, int64_t> uses;
  const auto by_step = ids_by_step();
  for (const auto& [step, ids] : by_step)
    for (const std::string& id : ids) ++uses[id];
  int64_t added = 0, absent = 0;
  for (const OpenSource& source : c_.sources->open) {
    for (int64_t i = 0; i < source.data.size(); ++i) {
      const std::string& id = source.data.sample(i).id;
      const ReplayReport report = replayed(id);
      EXPECT_EQ(report.plans, 3);
      EXPECT_TRUE(report.is_in_data);
      EXPECT_EQ(report.consumed, uses[id]) << id;
      added += id.starts_with("more-") && report.consumed > 0;
      absent += report.is_absent();
    }
  }
  EXPECT_GT(added, 0);
  EXPECT_GT(absent, 0);
}

TEST_F(ChangedRunTest, AChangeThatWasRolledBackIsFollowed) {
  // Steps 4 and 5 with other weights; then back to the checkpoint of 3, and on as at first.
  write({{0, 3, {}, {}, {}, &a_, said(first_)},
         {3, 2, {}, {}, {}, &b_, said(second_)},
         {3, 7, {}, {}, {}, &a_, said(first_)}});
  keep(a_.plan.manifest());
  EXPECT_EQ(fault(), "");
  EXPECT_EQ(replayed("none").plans, 2);
  keep(b_.plan.manifest());
  EXPECT_NE(fault().find("plan.json is not the plan"), std::string::npos) << fault();
}

TEST_F(ChangedRunTest, AChangedPlanFileIsRefusedAndWhatDiffersNamed) {
  write(parts());
  const auto with = [&](const std::function<void(json&)>& change) {
    json manifest = c_.plan.manifest();
    change(manifest);
    keep(manifest);
    return fault();
  };
  const auto says = [&](const std::string& found, const std::string& words) {
    EXPECT_NE(found.find("plan.json"), std::string::npos) << found;
    EXPECT_NE(found.find(words), std::string::npos) << found;
  };
  ASSERT_EQ(with([](json&) {}), "");
  const std::string clips = "segment 2 (a), bucket clips/5x32x32: ";
  says(with([](json& m) { bucket_of(m, 1, "clips")["weight"] = .25; }), clips + "weight was");
  says(with([](json& m) { bucket_of(m, 1, "clips")["batch"] = 3; }),
       clips + "batch was 1, is now 3");
  says(with([](json& m) { bucket_of(m, 1, "clips")["rate"] = 7; }), clips + "rate was");
  says(with([](json& m) { bucket_of(m, 1, "clips")["withdrawn"] = "2"; }), clips + "withdrawn was");
  says(with([](json& m) { set_entries(bucket_of(m, 1, "clips"), {1, 0, 2}); }), "segment 2 (a)");
  says(with([](json& m) { bucket_of(m, 1, "clips")["samples"] = "0-3"; }), "other entries than");
  says(with([](json& m) { std::swap(m["segments"][1], m["segments"][2]); }), "segment 2 (a)");
  says(with([](json& m) { m["segments"][1]["steps"] = 1; }),
       "segment 2 (a): steps was 2, is now 1");
  says(with([](json& m) { m["changes"][0]["what"] = {"nothing"}; }), "changes 1");
  says(with([](json& m) { m["sources"][0]["digest"] = "x"; }), "source clips: digest was");
  fs::remove(run_ + "/" + kPlanFile);
  says(fault(), "there is no such file");
}

TEST_F(ChangedRunTest, APlanThatWasChangedTogetherWithItsLogIsRefused) {
  ASSERT_EQ(fault_of([](json&) {}), "");
  const std::string line = path_ + ", line 6: ";  // name, start, 3 steps, resume
  const auto says = [&](const std::string& found, const std::string& words) {
    EXPECT_EQ(found.substr(0, line.size()), line);
    EXPECT_NE(found.find("its plan_hash is"), std::string::npos) << found;
    EXPECT_NE(found.find(words), std::string::npos) << found;
  };
  const std::string clips = "segment 2 (a), bucket clips/5x32x32: ";
  const std::vector<int64_t>& entries = b_.plan.segments[1].buckets.back().entries;
  ASSERT_EQ(b_.plan.segments[1].buckets.back().source, "clips");
  // Another order; one sample in another's place; another share of the draws.
  says(fault_of([&](json& m) {
         std::vector<int64_t> turned(entries.rbegin(), entries.rend());
         for (const size_t segment : {0, 1}) set_entries(bucket_of(m, segment, "clips"), turned);
       }),
       "bucket clips/5x32x32: ");
  says(fault_of([&](json& m) {
         std::vector<int64_t> moved = entries;
         moved[0] = moved[1];
         set_entries(bucket_of(m, 1, "clips"), moved);
       }),
       clips);
  says(fault_of([&](json& m) {
         std::swap(bucket_of(m, 1, "clips")["rate"], bucket_of(m, 1, "stills")["rate"]);
       }),
       "segment 2 (a), bucket stills/1x32x32: rate was");
  says(fault_of([](json& m) { bucket_of(m, 1, "clips")["withdrawn"] = "0-9"; }),
       clips + "withdrawn was");
}

TEST_F(ChangedRunTest, WhatTheLogSaysOfAChangeIsHeldAgainstThePlan) {
  keep(c_.plan.manifest());
  std::vector<Part> told = parts();
  told[1].event["changes"] = {"nothing to speak of"};
  write(told);
  EXPECT_NE(fault().find("line 6: its list of changes is"), std::string::npos) << fault();
  // A log without the configuration of its parts cannot be explained by the last one.
  fs::remove(path_);
  told = parts();
  for (Part& part : told) part.event = json::object();
  write(told);
  EXPECT_NE(fault().find("line 6: its plan_hash is"), std::string::npos) << fault();
  EXPECT_NE(fault().find("the log does not say"), std::string::npos) << fault();
}

}  // namespace
}  // namespace pendulum
