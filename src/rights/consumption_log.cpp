// Writing and verifying the chain. The hash covers the bytes as they stand in the file, so no JSON
// library's way of printing matters.
#include "rights/consumption_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "pendulum-consumption/2";
constexpr const char* kFirstFormat = "pendulum-consumption/1";  // did not tell replacements apart
constexpr std::string_view kSeal = ",\"hash\":\"";
constexpr size_t kSealLength = kSeal.size() + 64 + 2;  // with the hash and the closing "}

const std::string& start_of_chain() {
  static const std::string zeros(64, '0');
  return zeros;
}

struct Line {
  std::string bytes;
  std::string hash;
};

// {"seq":n, payload's members, "prev":"..","hash":".."} and a line end.
Line seal(int64_t seq, const json& payload, const std::string& prev) {
  check(payload.is_object(), "a JSON object to log");
  for (const char* key : {"seq", "prev", "hash"})
    check(!payload.contains(key), "the log's own keys to be free: ", key);
  // Names from a file system may not be UTF-8; a replacement character is better than a lost line.
  const std::string members = payload.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string line = fmt::format("{{\"seq\":{}", seq);
  if (!payload.empty()) line.append(",").append(members, 1, members.size() - 2);
  line += fmt::format(",\"prev\":\"{}\"", prev);
  const std::string hash = sha256(line + "}");
  line += fmt::format("{}{}\"}}\n", kSeal, hash);
  return {std::move(line), hash};
}

// Why a line (without its end) does not continue the chain; empty: it does, and `head` is its hash.
std::string fault_of(const std::string& line, int64_t seq, std::string* head, json* parsed) {
  if (line.size() <= kSealLength ||
      line.compare(line.size() - kSealLength, kSeal.size(), kSeal) != 0 ||
      line.compare(line.size() - 2, 2, "\"}") != 0) {
    return "it does not end with a hash";
  }
  const std::string body = line.substr(0, line.size() - kSealLength);
  const std::string hash = line.substr(body.size() + kSeal.size(), 64);
  if (sha256(body + "}") != hash) return "its content does not match its hash";
  *parsed = json::parse(line, nullptr, false);
  if (!parsed->is_object()) return "it is not a JSON object";
  const auto found = parsed->find("seq");
  if (found == parsed->end() || !found->is_number_integer()) return "it has no sequence number";
  if (*found != seq)
    return fmt::format("its sequence number is {}, {} was expected: lines are missing or moved",
                       found->dump(), seq);
  const auto prev = parsed->find("prev");
  if (prev == parsed->end() || *prev != *head) return "it does not continue the line before";
  *head = hash;
  return "";
}

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw Error(text(path, ": ", what, ": ", std::strerror(errno)));
}

}  // namespace

ChainReport verify_chain(const std::string& path, const std::string& must_contain,
                         const ReadLine& read) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(text(path, ": cannot be opened for reading"));
  ChainReport report;
  report.head = start_of_chain();
  bool contained = must_contain.empty() || must_contain == report.head;
  std::string line;
  while (std::getline(file, line)) {
    if (file.eof()) {  // no line end: the write was cut off
      report.torn = true;
      break;
    }
    json parsed;
    report.reason = fault_of(line, report.lines, &report.head, &parsed);
    if (report.reason.empty() && report.lines == 0) {
      const json format = parsed.value("format", json());
      if (format != kFormat && format != kFirstFormat)
        report.reason = fmt::format("it does not begin a log of format {}", kFormat);
      else if (parsed.value("run", json()).is_string())
        report.run = parsed["run"];
      const json key = parsed.value("public_key", json());
      if (key.is_string()) report.public_key = key;
    }
    if (!report.reason.empty()) {
      report.bad_line = report.lines + 1;
      return report;
    }
    ++report.lines;
    report.good_bytes += static_cast<int64_t>(line.size()) + 1;
    contained = contained || report.head == must_contain;
    if (read) read(parsed);
  }
  if (file.bad()) throw DataError(text(path, ": reading failed before its end"));
  if (!contained) {
    report.bad_line = report.lines + 1;
    report.reason = fmt::format("the line with hash {} is missing", must_contain);
  }
  return report;
}

ConsumptionLog::ConsumptionLog(const std::string& path, const std::string& run_name,
                               const std::string& must_contain, const std::string& public_key)
    : path_(path) {
  // A destructor does not run for a half-made object: whatever throws below must close the file
  // first.
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) fail(path, "cannot be opened for writing");
  try {
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0)
      throw Error(text(path, ": another process is writing this log"));
    const ChainReport report = verify_chain(path, must_contain);
    if (report.bad_line > 0)
      throw DataError(text(path, ", line ", report.bad_line, ": ", report.reason));
    if (report.lines > 0 && report.run != run_name) {
      throw DataError(text(path, ": belongs to run '", report.run, "', this is '", run_name, "'"));
    }
    if (report.lines > 0 && report.public_key != public_key) {
      const auto shown = [](const std::string& key) {
        return key.empty() ? std::string("no key") : "public key " + key;
      };
      throw DataError(text(path, ": was begun with ", shown(report.public_key), ", rights.key is ",
                           shown(public_key)));
    }
    if (report.torn) {
      if (::ftruncate(file_, report.good_bytes) != 0)
        fail(path, "cannot be cut to its last whole line");
      note_ = fmt::format("{}: line {} was cut off while being written and was removed", path,
                          report.lines + 1);
    }
    bytes_ = report.good_bytes;
    next_seq_ = report.lines;
    head_ = report.head;
    json first{{"format", kFormat}, {"run", run_name}};
    if (!public_key.empty()) first["public_key"] = public_key;
    if (next_seq_ == 0) append(first);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

ConsumptionLog::~ConsumptionLog() { ::close(file_); }

void ConsumptionLog::append(const json& payload) {
  const Line line = seal(next_seq_, payload, head_);
  size_t done = 0;
  while (done < line.bytes.size()) {
    const ssize_t wrote = ::write(file_, line.bytes.data() + done, line.bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const int cause = errno;
      // Where even this fails, the cut-off line is removed on the next opening.
      [[maybe_unused]] const int cut = ::ftruncate(file_, bytes_);
      errno = cause;
      fail(path_, "cannot be written");
    }
    done += static_cast<size_t>(wrote);
  }
  bytes_ += static_cast<int64_t>(line.bytes.size());
  ++next_seq_;
  head_ = line.hash;
}

void ConsumptionLog::sync() {
  if (::fsync(file_) != 0) fail(path_, "cannot be brought to the disk");
}

}  // namespace pendulum
