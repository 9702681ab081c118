// A run of synthetic data whose consumption log tests write line by line, as the trainer does.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "judged_day.h"
#include "packed_synth.h"
#include "pendulum/walker.h"
#include "provenance/history.h"
#include "provenance/replay.h"

namespace pendulum {

inline const Geometry kShapes{.layers = 1,
                              .width = 16,
                              .ffn_dim = 32,
                              .text_length = 16,
                              .text_dim = 384,
                              .spatial = 4,
                              .temporal = 4,
                              .channels = 192};

namespace fs = std::filesystem;
using nlohmann::json;

class ProvenanceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::TempDir() + "provenance_" + std::to_string(getpid());
    pack_stills_and_clips(folder_, 40);
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  // Two stages over stills and clips; `clips` are the first one's weight, `data` the clips'
  // folders, `last_steps` the second one's length.
  static std::string yaml(const std::string& clips = ".5", const std::string& data = "clips.pack",
                          int last_steps = 4) {
    return "version: 1\n"
           "rights: {allow: [CC0-1.0]}\n"
           "mesh: {slots: 4, dwell: 2}\n"
           "sources:\n"
           "  stills: {data: " +
           folder_ + "/stills.pack}\n" + "  clips: {data: [" + folder_ + "/" + data + "]}\n" +
           "stages:\n"
           "  - {name: a, steps: 6, sources: {stills: .5, clips: " +
           clips +
           "}, shape: {frames: 5, size: 32x32}, batch: {stills: 2, clips: 1}}\n"
           "  - {name: b, steps: " +
           std::to_string(last_steps) +
           ", sources: {clips: 1},"
           " shape: {frames: 9, size: 32x32}, batch: {clips: 1}}\n";
  }

  ProvenanceTest()
      : config_(parse_config(yaml())),
        sources_(open_sources(config_, kRights)),
        plan_(make_plan(config_, catalogues(sources_, config_, kShapes), kShapes)),
        run_(folder_ + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()),
        path_(run_ + "/" + kConsumptionFile) {
    fs::remove_all(run_);
    fs::create_directories(run_);
    keep(plan_.manifest());
  }

  // As plan.json.
  void keep(const json& manifest) const { std::ofstream(run_ + "/" + kPlanFile) << manifest; }

  // What one process of a run writes: from `finished` steps on, so many more; `withdrawn` ids are
  // replaced, and so are `unreadable` ones.
  struct Part {
    int64_t finished = 0, steps = 0;
    std::set<std::string> withdrawn = {}, unreadable = {};
    std::function<void(json&)> change = {};  // of every line of a step
    const RunPart* planned = nullptr;        // null: plan_ of sources_
    json event = json::object();             // what the start or resume says beside the plan
  };

  json draw_json(const Plan& plan, const Draw& draw, const BucketPlan& bucket,
                 const Part& part) const {
    const OpenSource& source = (part.planned ? *part.planned->sources : sources_)[bucket.source];
    json ids = json::array(), replaced = json::array();
    for (const PlannedSample& planned : draw.samples) {
      int64_t k = 0;
      const auto id = [&] {
        return source.data.sample(bucket.entries[attempted_entry(plan, bucket, planned, k)]).id;
      };
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
      const Plan& plan = part.planned ? part.planned->plan : plan_;
      json event{{"event", log.next_seq() == 1 ? "start" : "resume"},
                 {"finished_steps", part.finished},
                 {"plan_hash", plan.hash()}};
      for (const PlanChange& change : plan.changes)
        if (change.finished_steps == part.finished) event["changes"] = change.what;
      event.update(part.event);
      log.append(event);
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
      PlanWalker walker(plan);
      walker.seek(position_after(plan, part.finished), digests.back());
      for (int64_t i = 0; i < part.steps; ++i) {
        const StepPlan step = walker.next();
        json draws = json::array();
        for (const Draw& draw : step.draws)
          draws.push_back(
              draw_json(plan, draw, plan.segments[step.segment].buckets[draw.bucket], part));
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

  // As the program plans again, from the configuration that the line holds.
  static RunPart plan_again(const json& line, const Plan* saved) {
    const Config config = parse_config(line.value("config", yaml()));
    auto sources = std::make_shared<const Sources>(open_sources(config, kRights));
    const std::vector<SourceCatalogue> data = catalogues(*sources, config, kShapes);
    if (!saved) return {sources, make_plan(config, data, kShapes)};
    return {sources, continue_plan(plan_from_manifest(saved->manifest()), line.at("finished_steps"),
                                   config, data, kShapes)};
  }
  ReplayReport replayed(const std::string& item) const { return replay(run_, item, plan_again); }

  std::string fault(const std::string& item = "none") const {
    try {
      replayed(item);
      return "";
    } catch (const DataError& error) {
      return error.what();
    }
  }

  static inline std::string folder_;
  const Config config_;
  const Sources sources_;
  const Plan plan_;
  const std::string run_, path_;
};

}  // namespace pendulum
