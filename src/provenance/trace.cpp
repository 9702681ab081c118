// Reading every log once, then following the heads that weights carry.
#include "provenance/trace.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <set>

#include "config/config.h"
#include "core/error.h"
#include "data/packed_data.h"
#include "provenance/evidence.h"
#include "provenance/history.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// Samples by source; an id alone is meant in every source.
struct Wanted {
  std::string id;                                    // empty where a hash is asked for
  std::map<std::string, std::set<std::string>> ids;  // by source

  bool holds(const std::string& source, const std::string& found) const {
    if (!id.empty()) return found == id;
    const auto entry = ids.find(source);
    return entry != ids.end() && entry->second.contains(found);
  }
};

Wanted wanted_in(const std::string& run_folder, const std::string& item) {
  if (!item.starts_with(kHashPrefix)) return {item, {}};
  Wanted wanted;
  const std::string hash = item.substr(std::string(kHashPrefix).size());
  const Config config = load_config((fs::path(run_folder) / "config.yaml").string());
  for (const auto& [name, source] : config.sources) {
    const PackedData data = PackedData::open(source.data);
    for (int64_t i = 0; i < data.size(); ++i) {
      const Sample sample = data.sample(i);
      if (sample.sha256 == hash) wanted.ids[name].insert(sample.id);
    }
  }
  return wanted;
}

// One run and the lines in which the item was consumed.
struct ReadRun {
  std::string folder;
  ConsumptionHistory history;
  std::vector<size_t> uses;  // indices of steps, one for each draw
  std::string base_head;     // of the weights that it began from; empty: fresh ones

  int64_t uses_at(int64_t line) const {
    int64_t count = 0;
    for (const size_t i : uses) count += history.steps[i].stands_at(line);
    return count;
  }
};

ReadRun read_run(const std::string& folder, const std::string& item) {
  ReadRun run{.folder = folder, .history = {}, .uses = {}, .base_head = {}};
  const Wanted wanted = wanted_in(folder, item);
  run.history = read_history((fs::path(folder) / kConsumptionFile).string(),
                             [&](size_t step, const std::string& source, const std::string& id) {
                               if (wanted.holds(source, id)) run.uses.push_back(step);
                             });
  if (run.history.started.is_object() && run.history.started.contains("base"))
    run.base_head = run.history.started["base"].value("consumption_log_head", "");
  return run;
}

// The item's way into the weights that are saved at a line of a run: draws of the run itself, or
// the base that it began from, followed through any number of runs.
struct Way {
  int64_t uses = 0;
  std::string base;
};

class Finder {
 public:
  explicit Finder(const std::vector<ReadRun>& runs) : runs_(runs) {}

  Way way_to(const ReadRun& run, int64_t line, int depth = 0) const {
    return {run.uses_at(line), base_of(run, depth)};
  }
  Way way_to(const std::string& head, int depth = 0) const {
    for (const ReadRun& run : runs_) {
      const auto found = run.history.lines_by_hash.find(head);
      if (found != run.history.lines_by_hash.end()) return way_to(run, found->second, depth);
    }
    return {};
  }
  bool is_known(const std::string& head) const {
    for (const ReadRun& run : runs_)
      if (run.history.lines_by_hash.contains(head)) return true;
    return false;
  }

 private:
  std::string base_of(const ReadRun& run, int depth) const {
    // A chain of bases is as long as there are runs; hashes cannot form a loop, a forged log could.
    if (run.base_head.empty() || depth > static_cast<int>(runs_.size())) return "";
    const Way way = way_to(run.base_head, depth + 1);
    if (way.uses == 0 && way.base.empty()) return "";
    return run.history.started["base"].value("run", "");
  }

  const std::vector<ReadRun>& runs_;
};

TracedRun traced(const ReadRun& run, const Finder& finder) {
  TracedRun out{.folder = run.folder, .base = {}, .checkpoints = {}};
  const Way way = finder.way_to(run, run.history.end());
  out.uses = way.uses;
  out.base = way.base;
  out.rolled_back = static_cast<int64_t>(run.uses.size()) - out.uses;
  for (const size_t i : run.uses) {
    const int64_t step = run.history.steps[i].step;
    if (out.first_step == 0) out.first_step = step;
    out.first_step = std::min(out.first_step, step);
    out.last_step = std::max(out.last_step, step);
  }
  for (const Evidence& checkpoint : checkpoints_of(run.folder)) {
    const Way to = finder.way_to(run, line_of(checkpoint, run.history));
    if (to.uses > 0 || !to.base.empty())
      out.checkpoints.push_back({checkpoint.folder, checkpoint.step, to.uses, to.base});
  }
  return out;
}

std::string shown(const TracedWeights& weights, const char* kind) {
  const std::string how =
      weights.uses > 0 ? fmt::format("{} draws", weights.uses) : "through its base weights";
  return fmt::format("  {} {} (step {}): {}\n", kind, weights.folder, weights.step, how);
}

}  // namespace

Trace trace_item(const std::string& item, const std::string& runs,
                 const std::vector<std::string>& export_roots) {
  Trace trace;
  std::vector<ReadRun> read;
  for (const std::string& folder : find_runs(runs)) {
    try {
      read.push_back(read_run(folder, item));
      trace.looked_at.push_back(folder);
    } catch (const Error& error) {
      trace.notes.push_back(text("not looked at: ", folder, ": ", error.what()));
    }
  }
  const Finder finder(read);
  for (const ReadRun& run : read) {
    try {
      TracedRun found = traced(run, finder);
      if (found.uses > 0 || found.rolled_back > 0 || !found.base.empty())
        trace.runs.push_back(std::move(found));
    } catch (const Error& error) {
      trace.notes.push_back(text("not looked at: ", run.folder, ": ", error.what()));
    }
  }
  std::set<std::string> seen;
  for (const std::string& root : export_roots) {
    for (const std::string& folder : find_exports(root)) {
      if (!seen.insert(fs::weakly_canonical(folder).string()).second) continue;
      const Evidence evidence = *evidence_of(folder);
      if (!finder.is_known(evidence.head.head)) {
        trace.notes.push_back(text("not looked at: ", folder, ": its run '", evidence.head.run,
                                   "' is not under ", runs));
        continue;
      }
      const Way way = finder.way_to(evidence.head.head);
      if (way.uses > 0 || !way.base.empty())
        trace.exports.push_back({folder, evidence.step, way.uses, way.base});
    }
  }
  return trace;
}

std::string describe(const Trace& trace, const std::string& item) {
  std::string out;
  for (const TracedRun& run : trace.runs) {
    out += fmt::format("run {}: ", run.folder);
    if (run.uses + run.rolled_back > 0) {
      out += fmt::format("consumed {} times, steps {} to {}", run.uses + run.rolled_back,
                         run.first_step, run.last_step);
      if (run.rolled_back > 0) out += fmt::format("; {} of them rolled back", run.rolled_back);
    }
    if (!run.base.empty())
      out += fmt::format("{}began from weights of run {}, which had consumed it",
                         run.uses + run.rolled_back > 0 ? "; " : "", run.base);
    out += "\n";
    for (const TracedWeights& checkpoint : run.checkpoints) out += shown(checkpoint, "checkpoint");
  }
  for (const TracedWeights& found : trace.exports) out += shown(found, "export");
  if (trace.runs.empty() && trace.exports.empty())
    out += fmt::format("{}: consumed by none of {} runs\n", item, trace.looked_at.size());
  for (const std::string& note : trace.notes) out += note + "\n";
  return out;
}

}  // namespace pendulum
