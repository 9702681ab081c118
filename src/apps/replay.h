// Walks a run's manifest again and compares every step with what the run logged.
#pragma once
#include <string>

namespace pendulum {

// Looks at plan.json and consumption.jsonl of the run's folder and says what agrees. DataError
// names the line of the log at which the two part, or says that the log names another plan.
std::string replay_run(const std::string& run_folder);

}  // namespace pendulum
