// Pieces over threads; what is remembered is believed only where every number of the file's status
// agrees.
#include "embed/content_hash.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/publish.h"
#include "data/parallel.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kMemory = ".pendulum-hashes.json";
constexpr int64_t kPiece = int64_t{64} << 20;
constexpr int64_t kSecond = 1'000'000'000;  // nanoseconds
constexpr int64_t kSettled = 2 * kSecond;

struct Status {
  int64_t inode = 0, size = 0, modified = 0, changed = 0;  // the times in nanoseconds
  bool operator==(const Status&) const = default;
};

Status status_of(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0 || !S_ISREG(found.st_mode))
    throw DataError(text(path, ": cannot be opened for reading"));
  return {.inode = static_cast<int64_t>(found.st_ino),
          .size = found.st_size,
          .modified = found.st_mtim.tv_sec * kSecond + found.st_mtim.tv_nsec,
          .changed = found.st_ctim.tv_sec * kSecond + found.st_ctim.tv_nsec};
}

json entry_of(const Status& status, const std::string& hash) {
  return {{"inode", status.inode},
          {"size", status.size},
          {"modified", status.modified},
          {"changed", status.changed},
          {"hash", hash}};
}

// What the folder remembers; nothing where that cannot be read.
json read_memory(const fs::path& folder) {
  std::ifstream file(folder / kMemory);
  json memory = json::parse(file, nullptr, false);
  return memory.is_object() ? memory : json::object();
}

std::optional<std::string> remembered(const fs::path& path, const Status& status) {
  const json memory = read_memory(path.parent_path());
  const auto found = memory.find(path.filename().string());
  if (found == memory.end() || !found->is_object()) return std::nullopt;
  const json hash = found->value("hash", json());
  if (!hash.is_string() || hash.get<std::string>().size() != 64) return std::nullopt;
  if (*found != entry_of(status, hash.get<std::string>())) return std::nullopt;
  return hash.get<std::string>();
}

void remember(const fs::path& path, const Status& status, const std::string& hash) {
  const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  if (now - std::max(status.modified, status.changed) < kSettled) return;
  json memory = read_memory(path.parent_path());
  memory[path.filename().string()] = entry_of(status, hash);
  try {
    publish_text((path.parent_path() / kMemory).string(), memory.dump(1) + "\n");
  } catch (const Error& error) {
    info("The hash of {} is not remembered: {}", path.string(), error.what());
  }
}

std::string hash_of_piece(const std::string& path, int64_t begin, int64_t bytes) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(begin);
  std::string piece(bytes, '\0');
  if (!file.read(piece.data(), bytes))
    throw DataError(text(path, ": reading failed before its end"));
  return sha256(std::string_view(piece));
}

std::string hash_of_file(const std::string& path) {
  const Status status = status_of(path);
  const fs::path absolute = fs::canonical(path);  // remembered where the file itself lies
  if (const auto known = remembered(absolute, status)) return *known;
  std::vector<std::string> pieces((status.size + kPiece - 1) / kPiece);
  parallel_for(static_cast<int64_t>(pieces.size()), 0, [&](int64_t i) {
    pieces[i] = hash_of_piece(path, i * kPiece, std::min(kPiece, status.size - i * kPiece));
  });
  std::string all;
  for (const std::string& piece : pieces) all += piece;
  if (status_of(path) != status) throw DataError(text(path, ": changed while it was read"));
  const std::string hash = sha256(all);
  remember(absolute, status, hash);
  return hash;
}

}  // namespace

std::string content_hash(const std::vector<std::string>& paths) {
  std::string hashes;
  for (const std::string& path : paths) hashes += hash_of_file(path);
  return sha256(hashes);
}

}  // namespace pendulum
