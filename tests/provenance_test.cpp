// History, replay, trace and bill of materials over logs that are written here line by line, as the
// trainer does.
#include <algorithm>

#include "provenance/bill_of_materials.h"
#include "provenance/evidence.h"
#include "provenance_run.h"

namespace pendulum {
namespace {

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
      const ReplayReport report = replayed(sample.id);
      EXPECT_EQ(report.consumed, uses[sample.id]) << sample.id;
      EXPECT_EQ(report.is_held_out,
                std::count(source.validation.begin(), source.validation.end(), i));
      EXPECT_EQ(report.is_absent(), uses[sample.id] == 0);
      EXPECT_EQ(replayed("sha256:" + sample.sha256).consumed, report.consumed);
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
  const ReplayReport report = replayed(withdrawn);
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
  const ReplayReport report = replayed(only_late);
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

TEST_F(ProvenanceTest, ADamagedRecordOfAnExportIsNoMissingOne) {
  EXPECT_FALSE(evidence_of(run_));
  const std::string record = run_ + "/pendulum.json";
  std::ofstream(record) << json{{"format", "other"}};
  EXPECT_FALSE(evidence_of(run_));
  EXPECT_TRUE(find_exports(run_).empty());
  std::ofstream(record) << R"({"format": "pendulum-exp)";
  const auto says = [&](const std::function<void()>& action) {
    try {
      action();
      ADD_FAILURE() << "taken for no export";
    } catch (const DataError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(record + ": is no JSON")) << error.what();
    }
  };
  says([&] { evidence_of(run_); });
  says([&] { find_exports(run_); });
}

}  // namespace
}  // namespace pendulum
