// Plays a run's plans again beside its consumption log: every planned sample, every replacement,
// every change, every return to an earlier checkpoint.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "batch/sources.h"
#include "pendulum/plan.h"

namespace pendulum {

inline constexpr const char* kPlanFile = "plan.json";  // in a run's folder

// The manifest in a run's folder. DataError naming the file where it is none.
nlohmann::json read_plan(const std::string& run);

// What a run goes by from a start, or from a resume that changed its plan.
struct RunPart {
  std::shared_ptr<const Sources> sources;
  Plan plan;
};

// Plans once more as the run did at `line`, a start or resume of its log. saved: the plan of the
// checkpoint that it went on from; null: none.
using PlanAgain = std::function<RunPart(const nlohmann::json& line, const Plan* saved)>;

// What the replay found of one sample. Draws whose weights were given up for an earlier checkpoint
// are counted apart: the sample was consumed, but what stands now was not shaped by it.
struct ReplayReport {
  int64_t lines = 0;                      // of the log
  int64_t steps = 0;                      // replayed, those that were rolled back included
  int64_t samples = 0;                    // consumed in them
  int64_t unreadable = 0, withdrawn = 0;  // attempts that were replaced, by why
  int64_t plans = 0;                      // made again: the first, and one for each change

  bool is_in_data = false;                // the packs hold it
  bool is_held_out = false;               // set aside for validation: measured, never trained on
  bool is_refused = false;                // by the policy or the deny-list of the start: in no plan
  int64_t consumed = 0;                   // draws in steps that stand
  int64_t rolled_back = 0;                // draws in steps that were rolled back
  int64_t planned = 0;                    // draws that planned it and took another in its place
  int64_t first_step = 0, last_step = 0;  // of its consumption

  bool is_absent() const { return consumed == 0 && rolled_back == 0; }
};

// run: its folder. item: a sample's id, or "sha256:" and the hash of its bytes. Every plan that the
// run had is made again, and must have the hash that its line of the log says; the last must be
// plan.json's. DataError "path, line n: ..." for the first line that the plan at that moment does
// not explain: another digest, slot, bucket or sample; a withdrawn sample that was used; a step
// that is missing. What the log alone can say, that a sample could not be read, is counted.
ReplayReport replay(const std::string& run, const std::string& item, const PlanAgain& plan_again);

std::string describe(const ReplayReport& report, const std::string& item);

}  // namespace pendulum
