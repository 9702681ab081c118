// Finding and reading the heads that folders of weights carry.
#include "provenance/evidence.h"

#include <algorithm>
#include <filesystem>

#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/json_file.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Evidence of_checkpoint(const std::string& folder) {
  const CheckpointManifest manifest = read_checkpoint_manifest(folder);
  const json& state = manifest.state;
  Evidence out{
      .folder = folder, .step = manifest.step, .head = {}, .public_key = {}, .signature = {}};
  out.head.head = state.at("consumption_head");
  out.head.seq = state.value("consumption_seq", int64_t{-1});
  out.head.run = state.value("consumption_run", "");
  out.public_key = state.value("consumption_public_key", "");
  out.signature = state.value("consumption_signature", "");
  return out;
}

Evidence of_export(const std::string& folder, const json& training) {
  Evidence out{.folder = folder,
               .is_export = true,
               .step = training.at("step"),
               .head = {},
               .public_key = {},
               .signature = {}};
  out.head.run = training.at("run");
  out.head.head = training.at("consumption_log_head");
  out.head.seq = training.value("consumption_log_seq", int64_t{-1});
  out.public_key = training.value("consumption_log_public_key", "");
  out.signature = training.value("consumption_log_signature", "");
  return out;
}

// Of a whole export, or of weights in another program's layout.
json export_record(const std::string& folder) {
  for (const auto& [name, format] : {std::pair{"pendulum.json", "pendulum-export"},
                                     std::pair{"training.json", "pendulum-weights"}}) {
    const fs::path path = fs::path(folder) / name;
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) continue;
    json record = read_json(path.string());
    if (record.is_object() && record.value("format", json()) == format) return record;
  }
  return {};
}

// Folders under root, itself included, that `wanted` takes; what it takes is not entered.
template <class Wanted>
void find(const fs::path& root, int depth, const Wanted& wanted, std::vector<std::string>& out) {
  if (wanted(root)) {
    out.push_back(root.lexically_normal().string());
    return;
  }
  std::error_code code;
  if (depth == 0) return;
  for (const auto& entry : fs::directory_iterator(root, code)) {
    if (entry.is_directory(code) && !entry.path().filename().string().starts_with("."))
      find(entry.path(), depth - 1, wanted, out);
  }
}

template <class Wanted>
std::vector<std::string> found_under(const std::string& root, const Wanted& wanted) {
  if (!fs::is_directory(root)) throw ConfigError(text(root, ": there is no such folder"));
  std::vector<std::string> out;
  find(fs::path(root).lexically_normal(), 2, wanted, out);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

std::optional<Evidence> evidence_of(const std::string& folder) {
  try {
    if (fs::exists(fs::path(folder) / "manifest.json")) return of_checkpoint(folder);
    const json record = export_record(folder);
    if (record.is_null()) return std::nullopt;
    return of_export(folder, record.at("training"));
  } catch (const json::exception& error) {
    throw DataError(text(folder, ": says nothing of a consumption log: ", error.what()));
  }
}

std::vector<Evidence> checkpoints_of(const std::string& run_folder) {
  std::vector<std::string> folders;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(fs::path(run_folder) / "checkpoints", code)) {
    if (entry.path().filename().string().starts_with("step-"))
      folders.push_back(entry.path().string());
  }
  std::sort(folders.begin(), folders.end());
  std::vector<Evidence> out;
  for (const std::string& folder : folders) {
    if (auto evidence = evidence_of(folder)) out.push_back(std::move(*evidence));
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Evidence& a, const Evidence& b) { return a.head.seq < b.head.seq; });
  return out;
}

std::vector<std::string> find_exports(const std::string& root) {
  return found_under(root, [](const fs::path& p) { return !export_record(p.string()).is_null(); });
}

std::vector<std::string> find_runs(const std::string& root) {
  return found_under(root, [](const fs::path& p) { return fs::exists(p / kConsumptionFile); });
}

std::string run_of(const Evidence& evidence, const std::string& root) {
  for (const std::string& run : find_runs(root)) {
    const std::string log = (fs::path(run) / kConsumptionFile).string();
    bool has_line = false;
    // A log that is damaged somewhere is still the one; whoever asked will be told.
    verify_chain(log, "", [&](const json& line) {
      has_line |= line.value("hash", "") == evidence.head.head;
    });
    if (has_line) return run;
  }
  throw ConfigError(text(evidence.folder, ": no run under ", root,
                         " has the log that it follows from, with the line of hash ",
                         evidence.head.head, "; name the folder of its run with --runs"));
}

int64_t line_of(const Evidence& evidence, const ConsumptionHistory& history) {
  const auto found = history.lines_by_hash.find(evidence.head.head);
  if (found == history.lines_by_hash.end()) {
    throw DataError(text(history.path, ": the line with hash ", evidence.head.head, ", which ",
                         evidence.folder, " names, is missing"));
  }
  if (evidence.head.seq >= 0 && evidence.head.seq != found->second) {
    throw DataError(text(evidence.folder, ": says that line ", evidence.head.seq + 1,
                         " of the log is its head; ", history.path, " has it in line ",
                         found->second + 1));
  }
  return found->second;
}

SignatureVerdict judge_signature(const Evidence& evidence, const std::string& public_key) {
  if (evidence.signature.empty() && public_key.empty()) return {true, "not signed"};
  if (evidence.signature.empty()) return {false, "is not signed, though the key demands it"};
  if (public_key.empty()) return {false, "is signed, though the log's first line names no key"};
  if (is_signed(evidence.head, public_key, evidence.signature))
    return {true, "signed by " + public_key};
  return {false, "its signature is not one of key " + public_key + " over this head"};
}

}  // namespace pendulum
