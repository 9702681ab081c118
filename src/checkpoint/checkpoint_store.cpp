// Names, finds and removes checkpoint folders, and writes them on a thread.
#include "checkpoint/checkpoint_store.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "core/publish.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

struct Entry {
  int64_t step = 0;
  int64_t repeat = 0;  // 0 for step-00000500, 1 for step-00000500.1
  std::string folder;
};

// "step-00000500" or "step-00000500.1"; anything else is not ours.
std::optional<Entry> parse_name(const fs::path& path) {
  const std::string name = path.filename().string();
  const std::string start = "step-";
  if (!name.starts_with(start)) return std::nullopt;
  Entry entry;
  entry.folder = path.string();
  const char* end = name.data() + name.size();
  auto [at, code] = std::from_chars(name.data() + start.size(), end, entry.step);
  if (code != std::errc() || entry.step < 0) return std::nullopt;
  if (at == end) return entry;
  if (*at != '.') return std::nullopt;
  const auto [last, repeat_code] = std::from_chars(at + 1, end, entry.repeat);
  if (repeat_code != std::errc() || last != end || entry.repeat < 1) return std::nullopt;
  return entry;
}

// Newest first.
std::vector<Entry> list_entries(const std::string& folder) {
  std::vector<Entry> entries;
  std::error_code code;
  for (const auto& found : fs::directory_iterator(folder, code)) {
    if (const auto entry = parse_name(found.path())) entries.push_back(*entry);
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.step, a.repeat) > std::pair(b.step, b.repeat);
  });
  return entries;
}

std::string checkpoints_folder(const std::string& run_folder) {
  return run_folder + "/checkpoints";
}

// Files and folders of interrupted saves and removals. Their names start with a dot, so no reader
// has seen them.
void sweep(const std::string& folder) {
  for (const auto& found : fs::directory_iterator(folder)) {
    if (found.path().filename().string().starts_with(".step-")) fs::remove_all(found.path());
  }
}

// The file system's complaints, which name their paths, as ours.
template <class Action>
void translate(const Action& action) {
  try {
    action();
  } catch (const fs::filesystem_error& error) {
    throw Error(error.what());
  }
}

CheckpointContents copy_to_cpu(const CheckpointContents& contents) {
  CheckpointContents copy{{}, contents.state};
  for (const auto& [stem, tensors] : contents.tensors) {
    for (const auto& [name, tensor] : tensors) {
      copy.tensors[stem].emplace_back(
          name, tensor.detach().to(at::kCPU, tensor.scalar_type(), false, /*copy=*/true));
    }
    copy.tensors.try_emplace(stem);  // a file without tensors
  }
  return copy;
}

}  // namespace

LatestCheckpoint latest_checkpoint(const std::string& run_folder) {
  LatestCheckpoint latest;
  for (const Entry& entry : list_entries(checkpoints_folder(run_folder))) {
    const std::string damage = checkpoint_damage(entry.folder);
    if (damage.empty()) {
      latest.folder = entry.folder;
      latest.step = entry.step;
      break;
    }
    latest.notes.push_back(text("passed over ", entry.folder, ": ", damage));
  }
  return latest;
}

CheckpointStore::CheckpointStore(std::string run_folder, int keep)
    : folder_(checkpoints_folder(run_folder)), keep_(keep) {
  check(keep >= 1, "one checkpoint to keep, or more: ", keep);
  translate([&] {
    fs::create_directories(folder_);
    sweep(folder_);
  });
}

CheckpointStore::~CheckpointStore() {
  try {
    finish();
  } catch (const std::exception& error) {
    warn("a checkpoint was not saved: {}", error.what());
  }
}

std::string CheckpointStore::save(int64_t step, const CheckpointContents& contents) {
  finish();
  return write(step, contents);
}

void CheckpointStore::save_async(int64_t step, const CheckpointContents& contents) {
  save_async(step, copy_to_cpu(contents));
}

void CheckpointStore::save_async(int64_t step, CheckpointContents&& contents) {
  finish();
  under_way_ = std::async(std::launch::async,
                          [this, step, contents = std::move(contents)] { write(step, contents); });
}

void CheckpointStore::finish() {
  if (under_way_.valid()) under_way_.get();
}

std::string CheckpointStore::write(int64_t step, const CheckpointContents& contents) const {
  const std::string first = fmt::format("{}/step-{:08}", folder_, step);
  std::string place = first;
  for (int repeat = 1; fs::exists(place); ++repeat) place = text(first, ".", repeat);
  save_checkpoint(place, step, contents);
  translate([&] { remove_old(place); });
  return place;
}

// What was just written counts as whole; among the others lengths decide, so that a damaged one
// never displaces a good one. Only what is older than the last one kept goes.
void CheckpointStore::remove_old(const std::string& newest) const {
  int kept = 0;
  for (const Entry& entry : list_entries(folder_)) {
    if (entry.folder == newest || kept < keep_) {
      if (entry.folder == newest || checkpoint_damage(entry.folder, false).empty()) ++kept;
      continue;
    }
    // A rename first: half of a checkpoint is never visible.
    const std::string hidden =
        text(folder_, "/.", fs::path(entry.folder).filename().string(), ".removed");
    fs::rename(entry.folder, hidden);
    sync_folder(folder_);
    fs::remove_all(hidden);
  }
}

}  // namespace pendulum
