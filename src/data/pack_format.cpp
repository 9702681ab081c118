// Reads and writes what stands beside the shards.
#include "data/pack_format.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

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

void read_header(const std::string& path, PackIndex& index, std::string& index_sha256,
                 int64_t& samples) {
  try {
    const nlohmann::json head = nlohmann::json::parse(read_whole(path));
    if (head.at("format") != kPackFormat)
      throw DataError(text(path, ": is not the head of a packed data set"));
    if (head.at("version") != kPackVersion) {
      throw DataError(text(path, ": format version ", head.at("version").dump(),
                           "; this program reads version ", kPackVersion, ": pack the data again"));
    }
    head.at("digest").get_to(index.digest);
    head.at("index_sha256").get_to(index_sha256);
    head.at("samples").get_to(samples);
    for (const nlohmann::json& shard : head.at("shards")) {
      index.shards.push_back({shard.at("file"), shard.at("bytes"), shard.at("sha256")});
    }
  } catch (const nlohmann::json::exception& e) {
    throw DataError(text(path, ": is damaged: ", e.what()));
  }
}

void check_shards(const std::string& folder, const PackIndex& index) {
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
  object["shard"] = line.place.shard;
  object["offset"] = line.place.offset;
  object["bytes"] = line.place.bytes;
  return object.dump() + "\n";
}

IndexLine index_line(const std::string& words, const std::string& where) {
  try {
    const nlohmann::json object = nlohmann::json::parse(words);
    IndexLine line{sample_from_json(object, where), {}};
    object.at("shard").get_to(line.place.shard);
    object.at("offset").get_to(line.place.offset);
    object.at("bytes").get_to(line.place.bytes);
    return line;
  } catch (const nlohmann::json::exception& e) {
    throw DataError(text(where, ": is damaged: ", e.what()));
  }
}

std::string pack_digest(const std::vector<IndexLine>& lines) {
  std::string all;
  for (const IndexLine& line : lines) all += line.sample.id + " " + line.sample.sha256 + "\n";
  return sha256(all);
}

PackIndex read_pack_index(const std::string& folder) {
  const std::string head = (fs::path(folder) / kPackFile).string();
  if (!fs::exists(head)) {
    throw DataError(text(folder, ": is no packed data set (", kPackFile,
                         " is missing); make one with `pendulum data pack`"));
  }
  PackIndex index;
  std::string expected;
  int64_t samples = 0;
  read_header(head, index, expected, samples);
  const std::string path = (fs::path(folder) / kIndexFile).string();
  const std::string words = read_whole(path);
  if (sha256(words) != expected)
    throw DataError(text(path, ": is not the index that ", kPackFile, " was written with"));
  std::istringstream lines(words);
  std::string line;
  std::set<std::string> ids;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string where = text(path, ":", number);
    index.lines.push_back(index_line(line, where));
    const IndexLine& last = index.lines.back();
    if (last.place.shard < 0 || last.place.shard >= static_cast<int>(index.shards.size()) ||
        last.place.offset < 0 || last.place.bytes <= 0 || last.place.bytes > kMaxMediaBytes) {
      throw DataError(text(where, ": names a place that no shard has"));
    }
    if (!ids.insert(last.sample.id).second)
      throw DataError(text(where, ": repeats the id ", last.sample.id));
  }
  if (static_cast<int64_t>(index.lines.size()) != samples ||
      pack_digest(index.lines) != index.digest) {
    throw DataError(text(head, ": its count or digest is not that of ", kIndexFile));
  }
  check_shards(folder, index);
  return index;
}

}  // namespace pendulum
