// A consumption log read back: its steps, which of them were rolled back, and what its start says.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "rights/consumption_log.h"

namespace pendulum {

inline constexpr const char* kConsumptionFile = "consumption.jsonl";  // in a run's folder
inline constexpr const char* kHashPrefix = "sha256:";  // of an item named by its bytes, not its id
inline constexpr int64_t kStands = INT64_MAX;          // never rolled back

// One optimiser step of the log. It shaped the weights that are saved at line `at` if
// seq <= at < rolled_back_at.
struct LoggedStep {
  int64_t seq = 0;  // of its line
  int64_t step = 0;
  int64_t rolled_back_at = kStands;  // line of the resume from a checkpoint before it

  bool stands_at(int64_t at) const { return seq <= at && at < rolled_back_at; }
};

struct ConsumptionHistory {
  std::string path, run, public_key;
  std::string head;        // of the last line
  int64_t lines = 0;       // the last line's number is lines - 1
  nlohmann::json started;  // the first start event
  std::vector<LoggedStep> steps;
  std::unordered_map<std::string, int64_t> lines_by_hash;

  int64_t end() const { return lines - 1; }
};

// A sample that a step consumed.
using OnUse =
    std::function<void(size_t step_index, const std::string& source, const std::string& id)>;

// Verifies the chain and reads it. Uses come in the order of the log; `step_index` points into
// `steps`, whose rolled_back_at is known only at the end. DataError "path, line n: ..." for the
// first line that was changed, dropped or moved, or that is not of the documented form.
ConsumptionHistory read_history(const std::string& path, const OnUse& on_use = {});

}  // namespace pendulum
