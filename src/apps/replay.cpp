// A run is a function of its manifest: replay proves it.
#include "apps/replay.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "pendulum/plan.h"
#include "pendulum/walker.h"
#include "provenance/history.h"
#include "provenance/replay.h"

namespace pendulum {
namespace {

using nlohmann::json;

struct StepLine {
  int64_t line = 0;
  json content;
};

// The steps that count: what a resume rolled back is left out. plan_hash: at the last start.
std::vector<StepLine> read_steps(const std::string& path, std::string* plan_hash) {
  const ChainReport chain = verify_chain(path);
  if (chain.bad_line > 0) throw DataError(text(path, ":", chain.bad_line, ": ", chain.reason));
  std::vector<StepLine> steps;
  std::ifstream file(path);
  std::string words;
  for (int64_t line = 1; line <= chain.lines && std::getline(file, words); ++line) {
    json content = json::parse(words);
    if (content.contains("event")) {
      steps.resize(std::min<size_t>(steps.size(), content.value("finished_steps", size_t{0})));
      *plan_hash = content.value("plan_hash", *plan_hash);
    } else if (content.contains("draws")) {
      steps.push_back({line, std::move(content)});
    }
  }
  return steps;
}

// The plan's step in the words of the log, without the ids, which only the data knows.
json in_words(const Plan& plan, const StepPlan& step, int64_t number) {
  json draws = json::array();
  for (const Draw& draw : step.draws) {
    draws.push_back({{"slot", draw.slot},
                     {"bucket", plan.segments[step.segment].buckets[draw.bucket].name},
                     {"first", draw.samples.front().ordinal},
                     {"samples", draw.samples.size()}});
  }
  return {{"step", number},
          {"segment", step.segment},
          {"t", step.first_t},
          {"digest", fmt::format("{:016x}", step.digest)},
          {"draws", draws}};
}

}  // namespace

std::string replay_run(const std::string& run_folder) {
  const json manifest = read_plan(run_folder);
  const Plan plan = plan_from_manifest(manifest);
  const std::string path = run_folder + "/" + kConsumptionFile;
  std::string plan_hash;
  const std::vector<StepLine> steps = read_steps(path, &plan_hash);
  PlanWalker walker(plan);
  for (const StepLine& logged : steps) {
    const std::string where = text(path, ":", logged.line);
    if (walker.done()) throw DataError(text(where, ": the manifest has no such step"));
    const auto number = static_cast<int64_t>(&logged - steps.data()) + 1;
    const json planned = in_words(plan, walker.next(), number);
    json found = logged.content;
    for (json& draw : found.at("draws")) {
      draw["samples"] = draw.at("ids").size();
      draw.erase("ids");
      draw.erase("replaced");  // of which the manifest knows nothing
    }
    for (const auto& [key, value] : planned.items()) {
      if (found.at(key) == value) continue;
      throw DataError(
          text(where, ": step ", number, ": ", key, " is not what the manifest gives; expected ",
               value.dump().substr(0, 200), ", found ", found.at(key).dump().substr(0, 200)));
    }
  }
  const std::string kept = sha256(manifest.dump());
  if (!steps.empty() && kept != plan_hash) {
    throw DataError(text(run_folder, "/", kPlanFile, ": is not the plan that the log's last start ",
                         "names: its hash is ", kept, ", the log says ", plan_hash));
  }
  std::string out = fmt::format(
      "{}: {} steps logged, {} segments in the manifest; every draw and digest is the manifest's, "
      "the last {:016x}\n",
      run_folder, steps.size(), plan.segments.size(), walker.running_digest());
  for (const PlanChange& change : plan.changes) {
    out += fmt::format("  changed after step {}:\n", change.finished_steps);
    for (const std::string& what : change.what) out += fmt::format("    {}\n", what);
  }
  return out;
}

}  // namespace pendulum
