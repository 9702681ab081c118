// metrics.jsonl: what a run measured, one JSON object a line, for machines and for people with
// grep.
#pragma once
#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace pendulum {

// Appends records. A line reaches the file in one write before append() returns, so other programs
// may follow the file while the run goes on, and kill -9 costs nothing. Throws Error naming the
// path when the file cannot be opened or written.
class MetricsFile {
 public:
  // Continues the file at `path`, or starts it. Records of steps after `last_step` are dropped, and
  // so is an unfinished last line: a run that resumes from step n passes n and writes n + 1 next; a
  // fresh run passes 0. Throws DataError naming path and line where an older line is no record.
  MetricsFile(const std::string& path, int64_t last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // `record` is an object with an integer "step", never smaller than that of the record before.
  // JSON knows no NaN and no infinity: they are written as null.
  void append(const nlohmann::json& record);

  // The "step" of the last record; 0 where there is none.
  int64_t last_step() const { return last_step_; }

 private:
  std::string path_;
  int file_ = -1;  // descriptor
  int64_t last_step_ = 0;
};

}  // namespace pendulum
