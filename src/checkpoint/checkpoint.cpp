// Saves, verifies and loads one checkpoint folder.
#include "checkpoint/checkpoint.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/publish.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEnd = ".safetensors";

void write_files(const std::string& folder, int64_t step, const CheckpointContents& contents) {
  std::error_code code;
  fs::remove_all(folder, code);
  if (!fs::create_directory(folder, code))
    throw Error(text("cannot create ", folder, ": ", code.message()));
  CheckpointManifest manifest{step, {}, contents.state};
  for (const auto& [stem, tensors] : contents.tensors) {
    const std::string path = text(folder, "/", stem, kEnd);
    write_safetensors(path, tensors);
    manifest.files[stem + kEnd] = {fs::file_size(path), sha256_of_file(path)};
  }
  write_checkpoint_manifest(folder, manifest);
}

void verify_file(const std::string& path, const FileRecord& record, bool thorough) {
  std::error_code code;
  const uint64_t bytes = fs::file_size(path, code);
  if (code)
    throw DataError(text(path, ", which the manifest lists, cannot be read: ", code.message()));
  if (bytes != record.bytes)
    throw DataError(text(path, " has ", bytes, " bytes, not ", record.bytes));
  if (thorough && sha256_of_file(path) != record.sha256)
    throw DataError(text(path, " is damaged: its checksum differs"));
}

CheckpointManifest verify(const std::string& folder, bool thorough) {
  CheckpointManifest manifest = read_checkpoint_manifest(folder);
  for (const auto& [name, record] : manifest.files)
    verify_file(folder + "/" + name, record, thorough);
  return manifest;
}

}  // namespace

void save_checkpoint(const std::string& folder, int64_t step, const CheckpointContents& contents) {
  const fs::path place(folder);
  const std::string temporary =
      (place.parent_path() / text(".", place.filename().string(), ".tmp.", ::getpid())).string();
  try {
    write_files(temporary, step, contents);
    publish_folder(temporary, folder);
  } catch (...) {
    std::error_code ignored;  // the first failure is the one to tell
    fs::remove_all(temporary, ignored);
    throw;
  }
}

CheckpointContents load_checkpoint(const std::string& folder) {
  const CheckpointManifest manifest = verify(folder, true);
  CheckpointContents contents;
  contents.state = manifest.state;
  for (const auto& [name, record] : manifest.files) {
    if (!name.ends_with(kEnd))
      throw DataError(text(folder, "/", name, " is not a safetensors file"));
    NamedTensors& tensors =
        contents.tensors[name.substr(0, name.size() - std::string(kEnd).size())];
    for (auto& [tensor_name, tensor] : read_safetensors(folder + "/" + name))
      tensors.emplace_back(tensor_name, tensor);
  }
  return contents;
}

std::string checkpoint_damage(const std::string& folder, bool thorough) {
  try {
    verify(folder, thorough);
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

}  // namespace pendulum
