// metrics.jsonl: opened at the end of what the resumed step allows, then appended to line by line.
#include "train/metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/error.h"

namespace pendulum {
namespace {

struct Kept {
  int64_t bytes = 0;
  int64_t last_step = 0;
};

// How much of the file stays: all complete lines before the first record of a step after
// `last_step`.
Kept kept_part(const std::string& path, int64_t last_step) {
  Kept kept;
  std::ifstream in(path, std::ios::binary);
  std::string line;
  for (int64_t number = 1; std::getline(in, line) && !in.eof(); ++number) {
    const auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || !record.contains("step") || !record["step"].is_number_integer()) {
      throw DataError(text(
          "'", path, "', line ", number,
          ": not a JSON object with an integer \"step\"; move the file away to start a new one"));
    }
    const auto step = record["step"].get<int64_t>();
    if (step > last_step) break;
    kept.bytes += static_cast<int64_t>(line.size()) + 1;
    kept.last_step = step;
  }
  return kept;
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, int64_t last_step) : path_(path) {
  const Kept kept = kept_part(path, last_step);
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) throw Error(text("cannot open '", path, "': ", std::strerror(errno)));
  if (::ftruncate(file_, kept.bytes) != 0) {
    const int reason = errno;
    ::close(file_);
    throw Error(text("cannot shorten '", path, "': ", std::strerror(reason)));
  }
  last_step_ = kept.last_step;
}

MetricsFile::~MetricsFile() { ::close(file_); }

void MetricsFile::append(const nlohmann::json& record) {
  check(record.is_object() && record.contains("step") && record["step"].is_number_integer(),
        "a metrics record is an object with an integer step");
  const auto step = record["step"].get<int64_t>();
  check(step >= last_step_, "metrics come in the order of steps", ": ", step, " after ",
        last_step_);
  last_step_ = step;
  const std::string line = record.dump() + "\n";
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = ::write(file_, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Error(text("cannot write to '", path_, "': ", std::strerror(errno)));
    done += static_cast<size_t>(written);
  }
}

}  // namespace pendulum
