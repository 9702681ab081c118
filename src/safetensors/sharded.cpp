// Opens the files that an index names.
#include "safetensors/sharded.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_file.h"
#include "core/publish.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kIndexEnd = ".safetensors.index.json";

json read_index(const std::string& path) {
  json index = read_json(path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw DataError(
        text(path, " is not an index of safetensors files: it has no object weight_map"));
  }
  return index["weight_map"];
}

// The index or, where there is none, the only .safetensors file of a folder.
std::string find_in_folder(const std::string& folder) {
  std::vector<std::string> indices;
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kIndexEnd)) indices.push_back(entry.path().string());
    if (name.ends_with(".safetensors")) files.push_back(entry.path().string());
  }
  const std::vector<std::string>& found = indices.empty() ? files : indices;
  if (found.size() != 1) {
    throw DataError(
        text(folder, " holds ", found.size(), " ",
             indices.empty() ? ".safetensors files without an index" : "safetensors indices",
             "; name the one that is meant"));
  }
  return found.front();
}

}  // namespace

ShardedSafetensors ShardedSafetensors::open(const std::string& path) {
  ShardedSafetensors set;
  set.path_ = fs::is_directory(path) ? find_in_folder(path) : path;
  if (!set.path_.ends_with(kIndexEnd)) {
    set.files_.push_back(SafetensorsFile::open(set.path_));
    for (const std::string& name : set.files_.front().names()) set.file_of_[name] = 0;
    return set;
  }
  std::map<std::string, size_t> place_of;  // file name -> place in files_
  const json weight_map = read_index(set.path_);
  for (const auto& [name, value] : weight_map.items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : "";
    // An index from elsewhere must not lead out of its folder.
    if (file.empty() || fs::path(file).filename() != file) {
      throw DataError(text(set.path_, ": tensor '", name,
                           "' must name a file of the same folder, not ", value.dump()));
    }
    const auto [place, fresh] = place_of.emplace(file, set.files_.size());
    if (fresh) {
      set.files_.push_back(
          SafetensorsFile::open((fs::path(set.path_).parent_path() / file).string()));
    }
    if (!set.files_[place->second].contains(name)) {
      throw DataError(text(set.path_, " places tensor '", name, "' in ", file,
                           ", which has none of that name"));
    }
    set.file_of_[name] = place->second;
  }
  return set;
}

std::vector<std::string> ShardedSafetensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : file_of_) names.push_back(name);
  return names;
}

std::vector<std::string> ShardedSafetensors::paths() const {
  std::vector<std::string> paths;
  if (path_.ends_with(kIndexEnd)) paths.push_back(path_);
  for (const SafetensorsFile& file : files_) paths.push_back(file.path());
  return paths;
}

const std::vector<int64_t>& ShardedSafetensors::shape(const std::string& name,
                                                      size_t dimensions) const {
  if (!contains(name)) throw DataError(text(path_, ": the tensor ", name, " is missing"));
  const std::vector<int64_t>& shape = info(name).shape;
  if (shape.size() != dimensions) {
    throw DataError(
        text(path_, ": ", name, " has ", shape.size(), " dimensions, expected ", dimensions));
  }
  return shape;
}

const SafetensorsFile& ShardedSafetensors::file(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) throw DataError(text(path_, " has no tensor '", name, "'"));
  return files_[found->second];
}

void write_sharded_safetensors(const std::string& folder, const std::string& stem,
                               const NamedTensors& tensors, uint64_t most_bytes,
                               const std::map<std::string, std::string>& metadata) {
  std::vector<NamedTensors> shards(1);
  uint64_t total = 0, used = 0;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t bytes = tensor.nbytes();
    if (used > 0 && used + bytes > most_bytes) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().emplace_back(name, tensor);
    used += bytes;
    total += bytes;
  }
  const fs::path place(folder);
  if (shards.size() == 1) {
    write_safetensors((place / (stem + ".safetensors")).string(), tensors, metadata);
    return;
  }
  json weight_map = json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file =
        fmt::format("{}-{:05}-of-{:05}.safetensors", stem, i + 1, shards.size());
    write_safetensors((place / file).string(), shards[i], metadata);
    for (const auto& [name, tensor] : shards[i]) weight_map[name] = file;
  }
  const json index{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  publish_text((place / (stem + kIndexEnd)).string(), index.dump(2) + "\n");
}

}  // namespace pendulum
