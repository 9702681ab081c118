// Reading a log line by line.
#include "provenance/history.h"

#include "core/error.h"

namespace pendulum {
namespace {

using nlohmann::json;

// A resume goes back to a checkpoint: what came after that step, and stood until now, stands no
// longer.
void roll_back(ConsumptionHistory& history, int64_t seq, int64_t finished) {
  for (size_t i = history.steps.size(); i-- > 0;) {
    LoggedStep& step = history.steps[i];
    if (step.rolled_back_at != kStands) continue;
    if (step.step <= finished) return;  // steps that stand ascend
    step.rolled_back_at = seq;
  }
}

void read_draws(const json& line, size_t step_index, const OnUse& on_use) {
  for (const json& draw : line.at("draws")) {
    const std::string bucket = draw.at("bucket");
    const std::string source = bucket.substr(0, bucket.find('/'));
    for (const json& id : draw.at("ids")) on_use(step_index, source, id.get<std::string>());
  }
}

}  // namespace

ConsumptionHistory read_history(const std::string& path, const OnUse& on_use) {
  ConsumptionHistory history;
  history.path = path;
  const auto read = [&](const json& line) {
    const int64_t seq = line.at("seq");
    history.lines_by_hash[line.at("hash")] = seq;
    const std::string event = line.value("event", "");
    if (event == "start" && history.started.is_null()) history.started = line;
    if (event == "start" || event == "resume")
      roll_back(history, seq, line.at("finished_steps").get<int64_t>());
    if (!line.contains("step")) return;
    history.steps.push_back({seq, line.at("step").get<int64_t>(), kStands});
    if (on_use) read_draws(line, history.steps.size() - 1, on_use);
  };
  int64_t number = 0;
  try {
    const ChainReport report = verify_chain(path, "", [&](const json& line) {
      ++number;
      read(line);
    });
    if (report.bad_line > 0)
      throw DataError(text(path, ", line ", report.bad_line, ": ", report.reason));
    history.run = report.run;
    history.public_key = report.public_key;
    history.head = report.head;
    history.lines = report.lines;
  } catch (const json::exception& error) {
    throw DataError(text(path, ", line ", number, ": not of a consumption log: ", error.what()));
  }
  return history;
}

}  // namespace pendulum
