// manifest.json of a checkpoint: the state, and the length and checksum of every file beside it.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace pendulum {

inline constexpr int kCheckpointFormat = 1;

struct FileRecord {
  uint64_t bytes = 0;
  std::string sha256;
};

struct CheckpointManifest {
  int64_t step = 0;
  std::map<std::string, FileRecord> files;  // by file name
  nlohmann::json state;
};

// The manifest carries a checksum of itself. Error where the state holds what JSON cannot, such as
// NaN.
void write_checkpoint_manifest(const std::string& folder, const CheckpointManifest& manifest);

// DataError names the path and what is wrong with the manifest; the files it lists are not looked
// at.
CheckpointManifest read_checkpoint_manifest(const std::string& folder);

}  // namespace pendulum
