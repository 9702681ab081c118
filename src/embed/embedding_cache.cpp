// Memory first, then what waits to be written, then the shards.
#include "embed/embedding_cache.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr size_t kOpenShards = 16;
constexpr auto kStaleAfter = std::chrono::hours(24);  // no shard takes that long to write
constexpr const char* kReaderVersion =
    "clip 1";  // raise it when read_clip picks or resizes frames differently

std::string writer_name() {
  char host[64] = "host";
  ::gethostname(host, sizeof(host) - 1);
  std::random_device device;
  // Process numbers come again, in containers above all, so the name carries chance too.
  return fmt::format("{}-{}-{:08x}{:08x}", host, ::getpid(), device(), device());
}

// Temporary files of writers that died.
void remove_stale(const fs::path& path) {
  std::error_code failed;
  const fs::file_time_type written = fs::last_write_time(path, failed);
  if (!failed && fs::file_time_type::clock::now() - written > kStaleAfter) fs::remove(path, failed);
}

}  // namespace

std::string posterior_key(std::string_view source_sha256, const ClipRequest& request,
                          std::string_view codec) {
  const Excerpt& part = request.excerpt;
  const std::string where = part.is_whole() ? "" : fmt::format(" {}-{}", part.start, part.end);
  return sha256(fmt::format("latent\n{}\n{}\n{} {} {}x{}{}\n{}", source_sha256, kReaderVersion,
                            request.frames, request.fps, request.height, request.width, where,
                            codec));
}

std::string text_key(std::string_view caption, std::string_view encoder) {
  return sha256(fmt::format("text\n{}\n{}", encoder, caption));
}

EmbeddingCache::EmbeddingCache(const std::string& folder, const CacheLimits& limits)
    : folder_(folder), limits_(limits), writer_(writer_name()), recent_(limits.memory_bytes) {
  if (folder_.empty()) return;
  std::error_code failed;
  fs::create_directories(folder_, failed);
  if (failed)
    throw Error(text("embed.cache: cannot make the folder ", folder_, ": ", failed.message()));
  const std::lock_guard lock(mutex_);
  find_shards();
  evict();
}

EmbeddingCache::EmbeddingCache(const std::string& folder, const EmbedConfig& config)
    : EmbeddingCache(folder, CacheLimits{.disk_bytes = static_cast<int64_t>(config.cache_limit_gb *
                                                                            (1 << 30))}) {}

EmbeddingCache::~EmbeddingCache() {
  try {
    flush();
  } catch (const std::exception&) {
    // The records are computed again when they are next needed.
  }
}

std::optional<at::Tensor> EmbeddingCache::get(const std::string& key) {
  {
    const std::lock_guard lock(mutex_);
    std::optional<at::Tensor> found = recent_.get(key);
    for (const auto* waiting : {&pending_, &writing_}) {
      if (found) break;
      if (const auto at = waiting->find(key); at != waiting->end()) found = at->second;
    }
    if (found) {
      ++stats_.hits;
      return found;
    }
  }
  std::optional<at::Tensor> loaded = load(key);
  const std::lock_guard lock(mutex_);
  if (!loaded) {
    ++stats_.misses;
    return std::nullopt;
  }
  ++stats_.hits;
  ++stats_.disk_hits;
  recent_.put(key, *loaded);
  return loaded;
}

std::optional<at::Tensor> EmbeddingCache::load(const std::string& key) {
  Entry entry;
  std::shared_ptr<const Hdf5File> file;
  try {
    {
      const std::lock_guard lock(mutex_);
      const auto found = entries_.find(key);
      if (found == entries_.end()) return std::nullopt;
      entry = found->second;
      file = opened(entry.shard);
    }
    return load_cache_record(*file, key, entry.place);
  } catch (const DataError& error) {
    const std::lock_guard lock(mutex_);
    quarantine(entry.shard->path, error.what());
    return std::nullopt;
  }
}

std::shared_ptr<const Hdf5File> EmbeddingCache::opened(const std::shared_ptr<Shard>& shard) {
  if (!shard->file) {
    shard->file = std::make_shared<const Hdf5File>(Hdf5File::open(shard->path));
    open_shards_.push_back(shard);
    if (open_shards_.size() > kOpenShards) {
      open_shards_.front()->file.reset();
      open_shards_.pop_front();
    }
  }
  return shard->file;
}

void EmbeddingCache::put(const std::string& key, const at::Tensor& tensor) {
  check(tensor.scalar_type() == at::kFloat, "an fp32 embedding: ", tensor.scalar_type());
  check(at::isfinite(tensor).all().item<bool>(), "an embedding of finite values, for key ", key);
  // A copy of its own: a view would keep all that it was cut from.
  const at::Tensor kept = tensor.detach().to(at::kCPU).clone(at::MemoryFormat::Contiguous);
  const auto bytes = static_cast<int64_t>(kept.nbytes());
  bool full = false;
  {
    const std::lock_guard lock(mutex_);
    if (entries_.contains(key) || pending_.contains(key) || writing_.contains(key)) return;
    ++stats_.stored;
    recent_.put(key, kept);
    if (folder_.empty() || disk_failed_) return;
    // Twice the record is room enough for its line in the table.
    if (pending_bytes_ + 2 * bytes > kMaxShardBytes && pending_bytes_ > 0) full = true;
    if (bytes > kMaxShardBytes / 2) {
      ++stats_.lost;
      return;
    }
  }
  if (full) flush();
  {
    const std::lock_guard lock(mutex_);
    if (pending_.emplace(key, kept).second) pending_bytes_ += bytes;
    full = pending_bytes_ >= limits_.flush_bytes;
  }
  if (full) flush();
}

void EmbeddingCache::flush() {
  const std::lock_guard one_at_a_time(flush_mutex_);
  std::string path;
  NamedTensors records;
  {
    const std::lock_guard lock(mutex_);
    if (pending_.empty()) return;
    writing_.swap(pending_);
    pending_bytes_ = 0;
    records.assign(writing_.begin(), writing_.end());
    path = next_shard_path();
  }
  std::sort(records.begin(), records.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string failure;
  try {
    write_cache_shard(path, records);
  } catch (const Error& error) {
    failure = error.what();
  }
  const std::lock_guard lock(mutex_);
  writing_.clear();
  if (failure.empty()) {
    find_shards();
    evict();
  } else {
    disk_failed_ = true;
    stats_.lost += static_cast<int64_t>(records.size());
    warn("the embedding cache stays in memory from now on: {}", failure);
  }
}

std::string EmbeddingCache::next_shard_path() {
  return fmt::format("{}/{}-{:05}.h5", folder_, writer_, written_shards_++);
}

void EmbeddingCache::find_shards() {
  std::error_code failed;
  std::vector<std::string> known, there;
  for (const auto& file : fs::directory_iterator(folder_, failed)) {
    const std::string path = file.path().string();
    if (path.ends_with(".h5")) there.push_back(path);
    if (path.find(".h5.tmp.") != path.npos) remove_stale(path);
  }
  for (const auto& [path, shard] : shards_) known.push_back(path);
  std::sort(there.begin(), there.end());
  for (const std::string& path : known) {
    if (!std::binary_search(there.begin(), there.end(), path)) forget(path);
  }
  for (const std::string& path : there) {
    if (!shards_.contains(path)) adopt(path);
  }
}

void EmbeddingCache::adopt(const std::string& path) {
  auto shard = std::make_shared<Shard>();
  shard->path = path;
  std::error_code failed;
  shard->bytes = static_cast<int64_t>(fs::file_size(path, failed));
  if (!failed) shard->written = fs::last_write_time(path, failed).time_since_epoch().count();
  if (failed) return;  // removed by another process since the folder was listed
  try {
    for (auto& [key, place] : read_cache_table(Hdf5File::open(path))) {
      entries_.try_emplace(key, Entry{shard, std::move(place)});
    }
    shards_.emplace(path, shard);
  } catch (const DataError& error) {
    quarantine(path, error.what());
  }
}

void EmbeddingCache::forget(const std::string& path) {
  std::erase_if(entries_, [&](const auto& entry) { return entry.second.shard->path == path; });
  std::erase_if(open_shards_, [&](const auto& shard) { return shard->path == path; });
  shards_.erase(path);
}

void EmbeddingCache::quarantine(const std::string& path, const std::string& reason) {
  forget(path);
  std::error_code failed;
  fs::rename(path, path + ".bad", failed);
  if (failed) return;  // another process has removed it, or set it aside already
  ++stats_.quarantined;
  warn("embedding cache: {}; the shard is set aside as {}.bad and its records are computed again",
       reason, fs::path(path).filename().string());
}

void EmbeddingCache::evict() {
  std::vector<std::shared_ptr<Shard>> oldest_first;
  int64_t total = 0;
  for (const auto& [path, shard] : shards_) {
    oldest_first.push_back(shard);
    total += shard->bytes;
  }
  std::sort(oldest_first.begin(), oldest_first.end(), [](const auto& a, const auto& b) {
    return std::pair(a->written, a->path) < std::pair(b->written, b->path);
  });
  for (const auto& shard : oldest_first) {
    if (total <= limits_.disk_bytes) break;
    total -= shard->bytes;
    std::error_code ignored;  // another process may have been quicker
    fs::remove(shard->path, ignored);
    forget(shard->path);
    ++stats_.evicted;
  }
}

CacheStats EmbeddingCache::stats() const {
  const std::lock_guard lock(mutex_);
  CacheStats stats = stats_;
  stats.shards = static_cast<int64_t>(shards_.size());
  for (const auto& [path, shard] : shards_) stats.disk_bytes += shard->bytes;
  return stats;
}

}  // namespace pendulum
