// Where a sample went: the runs that consumed it, and the weights that followed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace pendulum {

// Weights that a sample has shaped.
struct TracedWeights {
  std::string folder;
  int64_t step = 0;
  int64_t uses = 0;  // draws that stand in its history
  std::string base;  // not empty: through base weights, those of this folder or run
};

struct TracedRun {
  std::string folder;
  int64_t uses = 0;                       // that stand
  int64_t rolled_back = 0;                // and those of steps that were rolled back
  int64_t first_step = 0, last_step = 0;  // of all uses
  std::string base;  // not empty: the run began from weights that the sample had shaped
  std::vector<TracedWeights> checkpoints;
};

struct Trace {
  std::vector<TracedRun> runs;  // that consumed it, or began from weights that had
  std::vector<TracedWeights> exports;
  std::vector<std::string> looked_at;  // all runs, traced or not
  std::vector<std::string> notes;      // what could not be looked at, and why
};

// item: a sample's id, or "sha256:" and the hash of its bytes, which the packs of each run's
// configuration translate to ids. Runs lie under `runs`, exports under each of `export_roots`.
Trace trace_item(const std::string& item, const std::string& runs,
                 const std::vector<std::string>& export_roots);

std::string describe(const Trace& trace, const std::string& item);

}  // namespace pendulum
