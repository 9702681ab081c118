// Saves, verifies and loads one checkpoint folder.
#include "checkpoint/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
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

CheckpointFiles open_checkpoint(const std::string& folder) {
  const CheckpointManifest manifest = verify(folder, false);
  CheckpointFiles files{{}, manifest.state};
  for (const auto& [name, record] : manifest.files) {
    if (!name.ends_with(kEnd))
      throw DataError(text(folder, "/", name, " is not a safetensors file"));
    files.tensors.emplace(name.substr(0, name.size() - std::string(kEnd).size()),
                          SafetensorsFile::open(folder + "/" + name));
  }
  return files;
}

void CheckpointFiles::read(const std::string& stem, const NamedTensors& to) const {
  const at::NoGradGuard no_grad;
  const auto found = tensors.find(stem);
  if (found == tensors.end()) throw DataError(text("the checkpoint has no file ", stem, kEnd));
  for (const auto& [name, tensor] : to) {
    const at::Tensor saved = found->second.load(name);
    if (saved.sizes() != tensor.sizes()) {
      throw DataError(text(found->second.path(), ": tensor ", name, " has shape ", saved.sizes(),
                           ", here ", tensor.sizes()));
    }
    // Numbers of another type are not converted: what is saved as bytes means something else.
    if (saved.scalar_type() != tensor.scalar_type()) {
      throw DataError(text(found->second.path(), ": tensor ", name, " is of type ",
                           saved.scalar_type(), ", here ", tensor.scalar_type()));
    }
    tensor.detach().copy_(saved);
  }
}

CheckpointContents load_checkpoint(const std::string& folder) {
  verify(folder, true);
  const CheckpointFiles files = open_checkpoint(folder);
  CheckpointContents contents{{}, files.state};
  for (const auto& [stem, file] : files.tensors) {
    NamedTensors& tensors = contents.tensors[stem];
    for (const std::string& name : file.names()) tensors.emplace_back(name, file.load(name));
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
