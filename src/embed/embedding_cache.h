// What codec and text encoder have computed before, by content: in memory, and on disk in shards.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "config/config.h"
#include "data/media_reader.h"
#include "embed/cache_shard.h"
#include "embed/recent_tensors.h"

namespace pendulum {

// Whatever decides a tensor's values is in its key. source_sha256: of the encoded bytes; codec:
// Codec::key(); encoder: TextEncoder::key().
std::string posterior_key(std::string_view source_sha256, const ClipRequest& request,
                          std::string_view codec);
std::string text_key(std::string_view caption, std::string_view encoder);

struct CacheLimits {
  int64_t disk_bytes = int64_t{20} << 30;  // all shards in the folder; the oldest go first
  int64_t memory_bytes = int64_t{256} << 20;
  int64_t flush_bytes = int64_t{32} << 20;  // a shard is written when so much waits
};

struct CacheStats {
  int64_t hits = 0, misses = 0;
  int64_t disk_hits = 0;    // of the hits, those read from a shard
  int64_t stored = 0;       // records that put() took
  int64_t shards = 0;       // in use now
  int64_t disk_bytes = 0;   // of these
  int64_t quarantined = 0;  // shards with damaged bytes, renamed to *.bad
  int64_t evicted = 0;      // shards removed for the limit
  int64_t lost = 0;         // records that could not be written
};

// Thread-safe. Any number of processes may use one folder: each writes shards of its own and sees
// the others' when it opens the folder and whenever it has written a shard. A damaged shard is
// never used: it is set aside, its records are misses from then on. A disk that cannot be written
// to costs a warning and the disk half of the cache, not the run.
class EmbeddingCache {
 public:
  // An empty folder name keeps everything in memory. Error where the folder cannot be made.
  EmbeddingCache(const std::string& folder, const CacheLimits& limits);
  EmbeddingCache(const std::string& folder, const EmbedConfig& config);
  EmbeddingCache(const EmbeddingCache&) = delete;
  EmbeddingCache& operator=(const EmbeddingCache&) = delete;
  ~EmbeddingCache();  // flushes

  // The tensor may be shared with others who asked: never write into it.
  std::optional<at::Tensor> get(const std::string& key);
  // fp32, kept exactly. Error for values that are not finite: a NaN in here would be trained on for
  // ever.
  void put(const std::string& key, const at::Tensor& tensor);
  // Writes what waits as a shard.
  void flush();

  CacheStats stats() const;

 private:
  struct Shard {
    std::string path;
    int64_t bytes = 0, written = 0;  // written: when, in the file system's ticks
    std::shared_ptr<const Hdf5File> file;
  };
  struct Entry {
    std::shared_ptr<Shard> shard;
    CachePlace place;
  };

  void find_shards();
  void adopt(const std::string& path);
  void evict();
  void forget(const std::string& path);
  void quarantine(const std::string& path, const std::string& reason);
  std::shared_ptr<const Hdf5File> opened(const std::shared_ptr<Shard>& shard);
  std::optional<at::Tensor> load(const std::string& key);
  std::string next_shard_path();

  const std::string folder_;
  const CacheLimits limits_;
  const std::string writer_;  // names this cache object among all that ever wrote to the folder

  std::mutex flush_mutex_;    // one flush at a time; taken before mutex_
  mutable std::mutex mutex_;  // guards all below
  RecentTensors recent_;
  std::unordered_map<std::string, at::Tensor> pending_, writing_;
  int64_t pending_bytes_ = 0;
  std::unordered_map<std::string, std::shared_ptr<Shard>> shards_;  // by path
  std::unordered_map<std::string, Entry> entries_;
  std::deque<std::shared_ptr<Shard>> open_shards_;  // oldest first
  int64_t written_shards_ = 0;
  bool disk_failed_ = false;
  CacheStats stats_;
};

}  // namespace pendulum
