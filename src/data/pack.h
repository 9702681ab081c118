// Packs a folder or a manifest into HDF5 shards, after looking at every medium; and looks at packs.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pendulum {

struct PackOptions {
  // A folder of media with .txt captions, a manifest (.jsonl), a WebDataset shard (.tar) or a
  // folder of them.
  std::string input;
  std::string out;  // the folder to make; must not exist
  // The owner's word for all entries that do not say it themselves. A folder needs licence and
  // holder.
  std::string licence = {}, holder = {}, basis = "owner-attested";
  double validation =
      0.02;         // share of a folder's media held out, by content; manifests say it line by line
  int threads = 0;  // 0: as many as the machine has
  std::vector<std::string> deny = {};  // deny-lists (rights/deny_list.h): what they name is refused
  bool in_place = false;  // the media stay where they are; the folder made holds the index alone
};

struct Refusal {
  std::string id, reason;
};

struct PackReport {
  std::string out, digest;
  int64_t packed = 0, stills = 0, clips = 0, validation = 0, bytes = 0;
  int shards = 0;
  std::vector<Refusal> refused;  // also in refused.jsonl
};

// Takes an entry when it names licence, holder, basis and a caption, its file decodes from the
// first frame to the last, no earlier entry has the same bytes, and no deny-list names it. Whether
// a run may use it is the run's own policy. The folder appears whole or not at all. ConfigError for
// what the user should change, DataError for a bad manifest or when nothing is left.
PackReport pack(const PackOptions& options);
std::string describe(const PackReport& report);

struct CheckReport {
  int64_t samples = 0, bytes = 0;
  std::vector<Refusal> problems;  // of samples, and of shards by file name
};

// Verifies every checksum of a pack and decodes every sample. DataError where it cannot even be
// opened.
CheckReport check_pack(const std::string& folder, int threads = 0);
std::string describe(const CheckReport& report);

struct PackStats {
  int64_t samples = 0, stills = 0, clips = 0, validation = 0, frames = 0, bytes = 0;
  double seconds = 0;
  std::map<std::string, int64_t> licences, holders, bases, sizes;  // value -> samples
  std::map<int, int64_t> caption_words,
      whole_seconds;  // words of each caption; length of clips, floored
  double fps = 0;
  std::map<int, int64_t> fits;             // frames (4k+1) -> clips that can fill them at fps
  std::map<std::string, int64_t> refused;  // when it was packed: reason -> samples
};

PackStats pack_stats(const std::string& folder, double fps);
std::string describe(const PackStats& stats);

}  // namespace pendulum
