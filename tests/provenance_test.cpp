// History, replay, trace and bill of materials over logs that are written here line by line, as the
// trainer does.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include <fmt/format.h>

#include "core/error.h"
#include "data/pack.h"
#include "data/synth.h"
#include "pendulum/walker.h"
#include "provenance/bill_of_materials.h"
#include "provenance/evidence.h"
#include "provenance/history.h"
#include "provenance/replay.h"

namespace pendulum {
namespace {

const Geometry kShapes{.layers = 1,
                       .width = 16,
                       .ffn_dim = 32,
                       .text_length = 16,
                       .text_dim = 384,
                       .spatial = 4,
                       .temporal = 4,
                       .channels = 192};

namespace fs = std::filesystem;
using nlohmann::json;

const FrozenRights kRights{*parse_date("2026-11-24"), {}};

class ProvenanceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::TempDir() + "provenance_" + std::to_string(getpid());
    SynthOptions synth;
    synth.stills = 40;
    synth.clips = 40;
    synth.out = folder_;
    synthesize(synth);
    for (const char* name : {"stills", "clips"}) {
      PackOptions options;
      options.input = folder_ + "/" + name + ".jsonl";
      options.out = folder_ + "/" + name + ".pack";
      pack(options);
    }
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  ProvenanceTest()
      : config_(parse_config("version: 1\n"
                             "rights: {allow: [CC0-1.0]}\n"
                             "mesh: {slots: 4, dwell: 2}\n"
                             "sources:\n"
                             "  stills: {data: " +
                             folder_ +
                             "/stills.pack}\n"
                             "  clips: {data: " +
                             folder_ +
                             "/clips.pack}\n"
                             "stages:\n"
                             "  - {name: a, steps: 6, sources: {stills: .5, clips: .5},"
                             " shape: {frames: 5, size: 32x32}, batch: {stills: 2, clips: 1}}\n"
                             "  - {name: b, steps: 4, sources: {clips: 1},"
                             " shape: {frames: 9, size: 32x32}, batch: {clips: 1}}\n")),
        sources_(open_sources(config_, kRights)),
        plan_(make_plan(config_, catalogues(sources_, config_, kShapes), kShapes)),
        path_(folder_ + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
              ".jsonl") {
    fs::remove(path_);
  }

  // What one process of a run writes: from `finished` steps on, so many more; `withdrawn` ids are
  // replaced, and so are `unreadable` ones.
  struct Part {
    int64_t finished = 0, steps = 0;
    std::set<std::string> withdrawn = {}, unreadable = {};
    std::function<void(json&)> change = {};  // of every line of a step
  };

  std::string id_of(const BucketPlan& bucket, int64_t entry) const {
    return sources_[bucket.source].data.sample(bucket.entries[entry]).id;
  }

  json draw_json(const Draw& draw, const BucketPlan& bucket, const Part& part) const {
    json ids = json::array(), replaced = json::array();
    for (const PlannedSample& planned : draw.samples) {
      int64_t k = 0;
      const auto id = [&] { return id_of(bucket, attempted_entry(plan_, bucket, planned, k)); };
      while (part.withdrawn.contains(id()) || part.unreadable.contains(id())) ++k;
      if (k > 0) replaced.push_back({ids.size(), k});
      ids.push_back(id());
    }
    json out{{"slot", draw.slot},
             {"bucket", bucket.name},
             {"first", draw.samples.front().ordinal},
             {"ids", ids}};
    if (!replaced.empty()) out["replaced"] = replaced;
    return out;
  }

  // Returns the head after each part.
  std::vector<std::string> write(const std::vector<Part>& parts) {
    ConsumptionLog log(path_, "run");
    std::vector<uint64_t> digests{0};
    std::vector<std::string> heads;
    for (const Part& part : parts) {
      log.append({{"event", log.next_seq() == 1 ? "start" : "resume"},
                  {"finished_steps", part.finished},
                  {"plan_hash", plan_.hash()}});
      std::map<std::string, std::vector<std::string>> withdrawn;
      for (const OpenSource& source : sources_.open) {
        for (int64_t i = 0; i < source.data.size(); ++i) {
          if (part.withdrawn.contains(source.data.sample(i).id))
            withdrawn[source.name].push_back(source.data.sample(i).id);
        }
      }
      if (!withdrawn.empty())
        log.append(
            {{"event", "deny"}, {"finished_steps", part.finished}, {"withdrawn", withdrawn}});
      digests.resize(part.finished + 1);
      PlanWalker walker(plan_);
      walker.seek(position_after(plan_, part.finished), digests.back());
      for (int64_t i = 0; i < part.steps; ++i) {
        const StepPlan step = walker.next();
        json draws = json::array();
        for (const Draw& draw : step.draws)
          draws.push_back(draw_json(draw, plan_.segments[step.segment].buckets[draw.bucket], part));
        json line{{"step", part.finished + i + 1},
                  {"segment", step.segment},
                  {"t", step.first_t},
                  {"digest", fmt::format("{:016x}", step.digest)},
                  {"draws", draws}};
        if (part.change) part.change(line);
        log.append(line);
        digests.push_back(step.digest);
      }
      heads.push_back(log.head());
    }
    return heads;
  }

  // Ids of the log by step, later lines of a step replacing earlier ones; and all of them.
  std::map<int64_t, std::vector<std::string>> ids_by_step() const {
    std::map<int64_t, std::vector<std::string>> out;
    std::ifstream file(path_);
    for (std::string words; std::getline(file, words);) {
      const json line = json::parse(words);
      if (!line.contains("step")) continue;
      out[line["step"]].clear();
      for (const json& draw : line["draws"])
        for (const json& id : draw["ids"]) out[line["step"]].push_back(id);
    }
    return out;
  }

  std::string fault(const std::string& item = "none") const {
    try {
      replay(plan_, sources_, path_, item);
      return "";
    } catch (const DataError& error) {
      return error.what();
    }
  }

  static std::string folder_;
  const Config config_;
  const Sources sources_;
  const Plan plan_;
  const std::string path_;
};
std::string ProvenanceTest::folder_;

TEST_F(ProvenanceTest, AWholeRunIsReplayedAndEverySampleCountedAsTheLogHasIt) {
  write({{0, 10}});
  std::map<std::string, int64_t> uses;
  const auto by_step = ids_by_step();
  for (const auto& [step, ids] : by_step)
    for (const std::string& id : ids) ++uses[id];
  int64_t samples = 0, absent = 0;
  for (const OpenSource& source : sources_.open) {
    for (int64_t i = 0; i < source.data.size(); ++i) {
      const Sample& sample = source.data.sample(i);
      const ReplayReport report = replay(plan_, sources_, path_, sample.id);
      EXPECT_EQ(report.consumed, uses[sample.id]) << sample.id;
      EXPECT_EQ(report.is_held_out,
                std::count(source.validation.begin(), source.validation.end(), i));
      EXPECT_EQ(report.is_absent(), uses[sample.id] == 0);
      EXPECT_EQ(replay(plan_, sources_, path_, "sha256:" + sample.sha256).consumed,
                report.consumed);
      absent += report.is_absent();
      samples = report.samples;
    }
  }
  int64_t all = 0;
  for (const auto& [id, count] : uses) all += count;
  EXPECT_EQ(samples, all);
  EXPECT_GT(absent, 0);
}

TEST_F(ProvenanceTest, WithdrawnAndUnreadableSamplesAreFollowedThroughTheirReplacements) {
  write({{0, 10}});
  const std::string withdrawn = ids_by_step()[1][0], unreadable = ids_by_step()[2][0];
  ASSERT_NE(withdrawn, unreadable);
  fs::remove(path_);
  write({{0, 10, {withdrawn}, {unreadable}}});
  const ReplayReport report = replay(plan_, sources_, path_, withdrawn);
  EXPECT_TRUE(report.is_absent());
  EXPECT_GE(report.planned, 1);
  EXPECT_GE(report.withdrawn, 1);
  EXPECT_GE(report.unreadable, 1);
  EXPECT_NE(describe(report, "x").find("x was not consumed"), std::string::npos);
}

TEST_F(ProvenanceTest, StepsThatWereRolledBackAreToldApart) {
  // Five steps, back to the third, then to the end; the sample is withdrawn after the first part.
  write({{0, 5}});
  std::string only_late;  // of steps 4 and 5 alone
  std::set<std::string> early;
  auto by_step = ids_by_step();
  for (const int64_t step : {1, 2, 3}) early.insert(by_step[step].begin(), by_step[step].end());
  for (const std::string& id : by_step[4])
    if (!early.contains(id)) only_late = id;
  ASSERT_NE(only_late, "");
  fs::remove(path_);
  const std::vector<std::string> heads = write({{0, 5}, {3, 7, {only_late}}});
  const ReplayReport report = replay(plan_, sources_, path_, only_late);
  EXPECT_EQ(report.consumed, 0);
  EXPECT_GE(report.rolled_back, 1);
  EXPECT_FALSE(report.is_absent());
  EXPECT_EQ(report.steps, 12);

  int64_t uses = 0;
  ConsumptionHistory history = read_history(path_);
  EXPECT_EQ(history.steps.size(), 12u);
  std::vector<size_t> used;
  read_history(path_, [&](size_t step, const std::string&, const std::string& id) {
    if (id == only_late) used.push_back(step);
  });
  for (const size_t i : used) {
    EXPECT_TRUE(history.steps[i].stands_at(history.lines_by_hash.at(heads[0])));
    EXPECT_FALSE(history.steps[i].stands_at(history.end()));
    ++uses;
  }
  EXPECT_EQ(uses, report.rolled_back);
}

TEST_F(ProvenanceTest, WhatThePlanDoesNotExplainIsFoundInItsLine) {
  const auto with = [&](const std::function<void(json&)>& change) {
    fs::remove(path_);
    write({{0, 10, {}, {}, [&](json& line) {
              if (line["step"] == 3) change(line);
            }}});
    return fault();
  };
  EXPECT_EQ(with([](json&) {}), "");
  const std::string line = path_ + ", line 5: ";  // name, start, steps 1, 2, 3
  const auto starts = [&](const std::string& found, const std::string& words) {
    EXPECT_EQ(found.substr(0, line.size()), line);
    EXPECT_NE(found.find(words), std::string::npos) << found;
  };
  // The chain is good in all of these: who wrote the log lied while writing it.
  starts(with([](json& l) { l["draws"][0]["ids"][0] = "another"; }), "its sample is \"another\"");
  starts(with([](json& l) { l["draws"][0]["replaced"] = {{0, 1}}; }), "its sample is");
  starts(with([](json& l) { l["digest"] = "0000000000000000"; }), "its digest is");
  starts(with([](json& l) { l["draws"].erase(1); }), "its number of draws is 3");
  starts(with([](json& l) { l["draws"][2]["bucket"] = "x/1x32x32"; }), "its bucket is");
  starts(with([](json& l) { l["step"] = 4; }), "its step is 4, the plan says 3");
  starts(with([](json& l) { l.erase("t"); }), "not of the documented form");
}

TEST_F(ProvenanceTest, AWithdrawnSampleThatWasUsedIsFound) {
  write({{0, 10}});
  const std::string id = ids_by_step()[2][1];
  std::ifstream file(path_);
  std::vector<json> lines;
  for (std::string words; std::getline(file, words);) {
    json line = json::parse(words);
    for (const char* key : {"seq", "prev", "hash"}) line.erase(key);
    lines.push_back(line);
  }
  fs::remove(path_);
  ConsumptionLog log(path_, "run");
  const std::string source = [&] {
    for (const OpenSource& s : sources_.open)
      for (int64_t i = 0; i < s.data.size(); ++i)
        if (s.data.sample(i).id == id) return s.name;
    return std::string();
  }();
  for (size_t i = 1; i < lines.size(); ++i) {
    log.append(lines[i]);
    if (i == 2)  // after step 1
      log.append({{"event", "deny"}, {"finished_steps", 1}, {"withdrawn", {{source, {id}}}}});
  }
  EXPECT_NE(fault().find("line 5: it used " + id + ", which was withdrawn before"),
            std::string::npos)
      << fault();
}

TEST_F(ProvenanceTest, AResumeFromAStepThatTheLogDoesNotHaveIsFound) {
  {
    ConsumptionLog log(path_, "run");
    log.append({{"event", "start"}, {"finished_steps", 0}, {"plan_hash", plan_.hash()}});
    log.append({{"event", "resume"}, {"finished_steps", 2}, {"plan_hash", plan_.hash()}});
  }
  EXPECT_NE(fault().find("line 3: it goes on from step 2, the log has 0"), std::string::npos);
  fs::remove(path_);
  {
    ConsumptionLog log(path_, "run");
    log.append({{"event", "start"}, {"finished_steps", 0}, {"plan_hash", "another"}});
  }
  EXPECT_NE(fault().find("line 2: its plan_hash is"), std::string::npos);
}

TEST_F(ProvenanceTest, TheBillCountsWhatStands) {
  const std::vector<std::string> heads = write({{0, 5}, {3, 7}});
  const ConsumptionHistory history = read_history(path_);
  const BillOfMaterials bill = bill_of_materials(path_, history.end(), sources_, kRights);
  EXPECT_EQ(bill.step, 10);
  std::set<std::string> different;
  int64_t draws = 0;
  const auto by_step = ids_by_step();
  for (const auto& [step, ids] : by_step) {
    different.insert(ids.begin(), ids.end());
    draws += static_cast<int64_t>(ids.size());
  }
  Consumed sum;
  for (const auto& [material, consumed] : bill.trained) {
    EXPECT_EQ(material.licence, "CC0-1.0");
    sum.samples += consumed.samples;
    sum.draws += consumed.draws;
  }
  EXPECT_EQ(sum.samples, static_cast<int64_t>(different.size()));
  EXPECT_EQ(sum.draws, draws);
  EXPECT_EQ(to_spdx(bill), to_spdx(bill_of_materials(path_, history.end(), sources_, kRights)));
  const int64_t before = history.lines_by_hash.at(heads[0]);
  EXPECT_EQ(bill_of_materials(path_, before, sources_, kRights).step, 5);
  EXPECT_NE(to_spdx(bill_of_materials(path_, before, sources_, kRights)), to_spdx(bill));
}

TEST_F(ProvenanceTest, HeadsOfWeightsAreHeldAgainstTheLogAndTheKey) {
  const std::vector<std::string> heads = write({{0, 5}});
  const ConsumptionHistory history = read_history(path_);
  Evidence evidence{
      .folder = "w", .head = {"run", history.end(), heads[0]}, .public_key = {}, .signature = {}};
  EXPECT_EQ(line_of(evidence, history), history.end());
  EXPECT_TRUE(judge_signature(evidence, "").is_good);
  const SigningKey key = SigningKey::generate(path_ + ".pem");
  EXPECT_FALSE(judge_signature(evidence, key.public_key()).is_good);  // not signed
  evidence.signature = key.sign(evidence.head);
  EXPECT_TRUE(judge_signature(evidence, key.public_key()).is_good);
  EXPECT_FALSE(judge_signature(evidence, "").is_good);  // signed by whom?
  evidence.head.seq = 2;
  EXPECT_THROW(line_of(evidence, history), DataError);
  EXPECT_FALSE(judge_signature(evidence, key.public_key()).is_good);
  evidence.head.head = std::string(64, '0');
  EXPECT_THROW(line_of(evidence, history), DataError);
}

}  // namespace
}  // namespace pendulum
