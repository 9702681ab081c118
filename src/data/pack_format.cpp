// Reads and writes what stands beside the shards.
#include "data/pack_format.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

std::string read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(text(path, ": cannot be opened"));
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (file.bad()) throw DataError(text(path, ": reading failed before its end"));
  return bytes;
}

PackHead read_head(const std::string& path) {
  PackHead out;
  try {
    const nlohmann::json head = nlohmann::json::parse(read_whole(path));
    if (head.at("format") != kPackFormat)
      throw DataError(text(path, ": is not the head of a packed data set"));
    const nlohmann::json& version = head.at("version");
    if (!version.is_number_integer() || version < kOldestPackVersion || version > kPackVersion) {
      throw DataError(text(path, ": format version ", version.dump(), "; this program reads ",
                           kOldestPackVersion, " to ", kPackVersion, ": pack the data again"));
    }
    head.at("digest").get_to(out.claim.digest);
    head.at("index_sha256").get_to(out.claim.sha256);
    head.at("samples").get_to(out.claim.samples);
    out.root = head.value("root", "");
    for (const nlohmann::json& shard : head.at("shards")) {
      out.shards.push_back({shard.at("file"), shard.at("bytes"), shard.at("sha256")});
    }
    out.claim.shards = static_cast<int>(out.shards.size());
    if (out.claim.digest.size() != 64 || out.claim.sha256.size() != 64 || out.claim.samples < 1)
      throw DataError(text(path, ": a value is out of its range"));
    return out;
  } catch (const nlohmann::json::exception& e) {
    throw DataError(text(path, ": is damaged: ", e.what()));
  }
}

void check_shards(const std::string& folder, const PackHead& index) {
  for (size_t i = 0; i < index.shards.size(); ++i) {
    const ShardRecord& shard = index.shards[i];
    const std::string path = (fs::path(folder) / shard.file).string();
    if (shard.file != shard_name(static_cast<int>(i))) {
      throw DataError(
          text(folder, "/", kPackFile, ": shard ", i, " has the name '", shard.file, "'"));
    }
    std::error_code problem;
    const uintmax_t found = fs::file_size(path, problem);
    if (problem) throw DataError(text(path, ": ", problem.message()));
    if (found != static_cast<uintmax_t>(shard.bytes)) {
      throw DataError(text(path, ": has ", found, " bytes, ", kPackFile, " says ", shard.bytes));
    }
  }
}

}  // namespace

std::string shard_name(int shard) { return fmt::format("shard-{:05}.h5", shard); }

std::string to_line(const IndexLine& line) {
  nlohmann::json object = to_json(line.sample);
  if (line.place.file.empty()) {
    object["shard"] = line.place.shard;
  } else {
    object["file"] = line.place.file;
  }
  object["offset"] = line.place.offset;
  object["bytes"] = line.place.bytes;
  return object.dump() + "\n";
}

IndexLine index_line(const std::string& words, const std::string& where) {
  try {
    const nlohmann::json object = nlohmann::json::parse(words);
    IndexLine line{sample_from_json(object, where), {}};
    line.place.file = object.value("file", "");
    if (line.place.file.empty()) object.at("shard").get_to(line.place.shard);
    object.at("offset").get_to(line.place.offset);
    object.at("bytes").get_to(line.place.bytes);
    return line;
  } catch (const nlohmann::json::exception& e) {
    throw DataError(text(where, ": is damaged: ", e.what()));
  }
}

std::string identity(const Sample& sample) {
  if (sample.excerpt.is_whole()) return sample.sha256;
  return fmt::format("{} {} {}", sample.sha256, sample.excerpt.start, sample.excerpt.end);
}

std::string pack_digest(const std::vector<IndexLine>& lines) {
  std::string all;
  for (const IndexLine& line : lines) all += line.sample.id + " " + identity(line.sample) + "\n";
  return sha256(all);
}

PackHead read_pack_head(const std::string& folder) {
  const std::string path = (fs::path(folder) / kPackFile).string();
  if (!fs::exists(path)) {
    throw DataError(text(folder, ": is no packed data set (", kPackFile,
                         " is missing); make one with `pendulum data pack`"));
  }
  PackHead head = read_head(path);
  check_shards(folder, head);
  return head;
}

}  // namespace pendulum
