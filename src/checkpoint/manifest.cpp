// Writes and reads manifest.json.
#include "checkpoint/manifest.h"

#include <filesystem>

#include "core/error.h"
#include "core/hash.h"
#include "core/json_file.h"
#include "core/publish.h"

namespace pendulum {
namespace {

using nlohmann::json;

constexpr const char* kFileName = "/manifest.json";

// Of the manifest without its own checksum. Dumping is a function of the values, so it survives
// reading back.
std::string checksum(json manifest) {
  manifest.erase("checksum");
  return sha256(manifest.dump());
}

CheckpointManifest parse(const json& source, const std::string& path) {
  CheckpointManifest manifest;
  manifest.step = source.at("step").get<int64_t>();
  manifest.state = source.at("state");
  for (const auto& [name, record] : source.at("files").items()) {
    if (std::filesystem::path(name).filename() != name) {
      throw DataError(text(path, " lists '", name, "', which is not a file of its folder"));
    }
    manifest.files[name] = {record.at("bytes").get<uint64_t>(),
                            record.at("sha256").get<std::string>()};
  }
  return manifest;
}

}  // namespace

void write_checkpoint_manifest(const std::string& folder, const CheckpointManifest& manifest) {
  json target{{"format", kCheckpointFormat},
              {"step", manifest.step},
              {"files", json::object()},
              {"state", manifest.state}};
  for (const auto& [name, record] : manifest.files) {
    target["files"][name] = {{"bytes", record.bytes}, {"sha256", record.sha256}};
  }
  target["checksum"] = checksum(target);
  const std::string source = target.dump(2) + "\n";
  if (json::parse(source) != target) {
    throw Error(text("the state of the checkpoint in ", folder,
                     " holds NaN or infinity, which JSON cannot carry"));
  }
  publish_text(folder + kFileName, source);
}

CheckpointManifest read_checkpoint_manifest(const std::string& folder) {
  const std::string path = folder + kFileName;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    throw DataError(text(folder, " is no checkpoint: it has no manifest.json"));
  const json source = read_json(path);
  if (!source.is_object() || !source.contains("format") || !source.contains("checksum")) {
    throw DataError(text(path, " is not the manifest of a checkpoint"));
  }
  // Before the checksum, whose rule may differ in another format.
  if (source["format"] != kCheckpointFormat) {
    throw DataError(text(path, " has format ", source["format"].dump(), "; this program reads ",
                         kCheckpointFormat));
  }
  if (source["checksum"] != checksum(source))
    throw DataError(text(path, " is damaged: its checksum differs"));
  try {
    return parse(source, path);
  } catch (const json::exception& error) {
    throw DataError(text(path, " is not the manifest of a checkpoint: ", error.what()));
  }
}

}  // namespace pendulum
