// The record of what was really trained on: one JSON line per entry, each sealed with the hash of
// the one before.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace pendulum {

// What is found in a log. Lines are numbered from 1, the first names the run.
struct ChainReport {
  int64_t lines = 0;       // good ones, from the start
  std::string head;        // hash of the last good line
  std::string run;         // name in the first line
  std::string public_key;  // in the first line; empty: the log is not signed
  int64_t bad_line = 0;    // the first that was changed, dropped or moved; 0: none
  std::string reason;      // why it is bad
  int64_t good_bytes = 0;
  bool torn = false;  // the last line was cut off while being written; not counted as bad
};

// Checks a whole log, handing each good line to `read`. `must_contain`, a hash that was noted
// elsewhere (in a checkpoint), also detects that lines were cut off at the end. DataError where the
// file cannot be read.
using ReadLine = std::function<void(const nlohmann::json& line)>;
ChainReport verify_chain(const std::string& path, const std::string& must_contain = "",
                         const ReadLine& read = {});

// Append-only; one writer at a time. A line is {"seq": n, payload..., "prev": hash, "hash": SHA-256
// of the line without its hash}; the format is written down in docs.
class ConsumptionLog {
 public:
  // Creates the file, or verifies it and goes on after its last whole line. Throws DataError naming
  // the first bad line, where the log belongs to another run, or where the line with hash
  // `must_contain` (noted in a checkpoint) is gone, or where it was begun for another public key
  // (rights/signature.h; empty: unsigned); Error where another process writes it.
  ConsumptionLog(const std::string& path, const std::string& run_name,
                 const std::string& must_contain = "", const std::string& public_key = "");
  ~ConsumptionLog();
  ConsumptionLog(const ConsumptionLog&) = delete;
  ConsumptionLog& operator=(const ConsumptionLog&) = delete;

  // Writes one line and hands it to the operating system; `payload` is an object without the keys
  // seq, prev and hash. Costs the same however long the log is. Error where the disk refuses; the
  // log is then as before.
  void append(const nlohmann::json& payload);
  // Waits until all lines are on the disk. Before a checkpoint names head().
  void sync();

  const std::string& head() const { return head_; }  // hash of the last line
  int64_t next_seq() const { return next_seq_; }
  const std::string& note() const { return note_; }  // what was repaired on opening; empty: nothing

 private:
  std::string path_;
  int file_ = -1;
  int64_t bytes_ = 0;
  int64_t next_seq_ = 0;
  std::string head_;
  std::string note_;
};

}  // namespace pendulum
