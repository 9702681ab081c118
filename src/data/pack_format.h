// The files of a packed data set: names, version, and one line of its index.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/sample.h"

namespace pendulum {

inline constexpr const char* kPackFormat = "pendulum-pack";
inline constexpr int kPackVersion = 1;
inline constexpr const char* kPackFile = "pack.json";
inline constexpr const char* kIndexFile = "index.jsonl";
inline constexpr const char* kRefusedFile = "refused.jsonl";
inline constexpr const char* kShardBytes = "bytes";  // the dataset that holds the media, end to end
inline constexpr int64_t kMaxMediaBytes =
    int64_t{250} << 20;  // of media; the file stays below 256 MB with its index

std::string shard_name(int shard);  // "shard-00000.h5"

struct Place {
  int shard = 0;
  int64_t offset = 0, bytes = 0;
};

struct IndexLine {
  Sample sample;
  Place place;
};

std::string to_line(const IndexLine& line);  // ends with a newline
IndexLine index_line(const std::string& words, const std::string& where);

// The identity of the data: SHA-256 over "id sha256\n" of each sample, in order.
std::string pack_digest(const std::vector<IndexLine>& lines);

struct ShardRecord {
  std::string file;
  int64_t bytes = 0;  // length of the file
  std::string sha256;
};

// pack.json and index.jsonl, read and checked against each other. DataError names the file at
// fault.
struct PackIndex {
  std::string digest;
  std::vector<ShardRecord> shards;
  std::vector<IndexLine> lines;
};
PackIndex read_pack_index(const std::string& folder);

}  // namespace pendulum
