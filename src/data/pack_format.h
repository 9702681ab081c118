// The files of a packed data set: names, version, and one line of its index.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/catalogue.h"
#include "data/sample.h"

namespace pendulum {

inline constexpr const char* kPackFormat = "pendulum-pack";
// 2: samples may be excerpts or lie in place, and carry terms and perceptual hashes; 1 is read too.
inline constexpr int kPackVersion = 2;
inline constexpr int kOldestPackVersion = 1;
inline constexpr const char* kPackFile = "pack.json";
inline constexpr const char* kIndexFile = "index.jsonl";
inline constexpr const char* kRefusedFile = "refused.jsonl";
inline constexpr const char* kShardBytes = "bytes";  // the dataset that holds the media, end to end
inline constexpr int64_t kMaxMediaBytes =
    int64_t{250} << 20;  // of media; the file stays below 256 MB with its index

inline constexpr int64_t kMostReadBytes = int64_t{4} << 30;  // of a medium in place

std::string shard_name(int shard);  // "shard-00000.h5"

// Bytes of a shard, or of a file that was left where it is: a tar shard, or a medium as a whole.
struct Place {
  int shard = 0;
  int64_t offset = 0, bytes = 0;
  std::string file{};  // in place: relative to the pack's root; empty: in a shard
};

struct IndexLine {
  Sample sample;
  Place place;
};

std::string to_line(const IndexLine& line);  // ends with a newline
IndexLine index_line(const std::string& words, const std::string& where);

// What a sample's pixels follow from: "sha256", and of an excerpt " start end" behind it.
std::string identity(const Sample& sample);

// The identity of the data: SHA-256 over "id identity\n" of each sample, in order.
std::string pack_digest(const std::vector<IndexLine>& lines);

struct ShardRecord {
  std::string file;
  int64_t bytes = 0;  // length of the file
  std::string sha256;
};

// pack.json, and whether the shards are as long as it says. DataError names the file at fault.
struct PackHead {
  std::string root;  // folder of the media in place; empty: there are none
  std::vector<ShardRecord> shards;
  IndexClaim claim;
};
PackHead read_pack_head(const std::string& folder);

}  // namespace pendulum
