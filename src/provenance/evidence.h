// What checkpoints and exports say about the consumption log that they follow from, and whether it
// holds.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "provenance/history.h"
#include "rights/signature.h"

namespace pendulum {

// A place in a log, noted in a folder of weights.
struct Evidence {
  std::string folder;
  bool is_export = false;
  int64_t step = 0;                   // optimiser steps that the weights have seen
  SignedHead head;                    // seq is -1 where an earlier version noted the hash alone
  std::string public_key, signature;  // empty: not signed
};

// Of a checkpoint, an export, or nothing where the folder is neither. DataError where it is one but
// damaged.
std::optional<Evidence> evidence_of(const std::string& folder);

// Of all checkpoints of a run, oldest first.
std::vector<Evidence> checkpoints_of(const std::string& run_folder);

// Folders under `root`, at most two levels down, that are exports; and those that hold a
// consumption log. Sorted. DataError names a record of an export that is no JSON: whether that is
// one cannot be told.
std::vector<std::string> find_exports(const std::string& root);
std::vector<std::string> find_runs(const std::string& root);

// The run under `root` whose log has the line that the evidence names. ConfigError where none has.
std::string run_of(const Evidence& evidence, const std::string& root);

// The line of the log that the evidence names. DataError where the log has no such line, or it
// stands elsewhere.
int64_t line_of(const Evidence& evidence, const ConsumptionHistory& history);

struct SignatureVerdict {
  bool is_good = false;
  std::string words;  // for people
};

// Against the key given, or the one in the log's first line where none is. An unsigned head is good
// only where neither names a key.
SignatureVerdict judge_signature(const Evidence& evidence, const std::string& public_key);

}  // namespace pendulum
