// embed/embedding_cache: what is stored comes back to the bit or not at all, whatever happens to
// the files.
#include "embed/embedding_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/random.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

std::string temporary_folder(const std::string& name) {
  const std::string folder = testing::TempDir() + "cache_" + name + std::to_string(::getpid());
  fs::remove_all(folder);
  return folder;
}

// Nothing stays in memory, so that every get reads the disk.
CacheLimits disk_only() { return {.memory_bytes = 0}; }

at::Tensor tensor_of(uint64_t seed, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  fill_normal(tensor.data_ptr<float>(), tensor.numel(), seed);
  return tensor;
}

std::string key_of(int i) { return text_key(std::to_string(i), "test"); }

std::vector<fs::path> files(const std::string& folder, const std::string& ending) {
  std::vector<fs::path> found;
  for (const auto& file : fs::directory_iterator(folder)) {
    if (file.path().string().ends_with(ending)) found.push_back(file.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// One shard of `count` records.
void fill(const std::string& folder, int first, int count, at::IntArrayRef shape) {
  EmbeddingCache cache(folder, disk_only());
  for (int i = first; i < first + count; ++i) cache.put(key_of(i), tensor_of(i, shape));
}

void flip_bit(const fs::path& path, uint64_t bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(bit / 8));
  const char byte = static_cast<char>(file.get() ^ (1 << (bit % 8)));
  file.seekp(static_cast<std::streamoff>(bit / 8));
  file.put(byte);
}

TEST(EmbeddingCache, GivesBackWhatWasStored) {
  const std::string folder = temporary_folder("round_trip");
  const std::vector<std::vector<int64_t>> shapes{{1},    {7, 3},        {},
                                                 {0, 5}, {48, 3, 5, 7}, {1, 16385}};
  std::vector<at::Tensor> tensors;
  for (size_t i = 0; i < shapes.size(); ++i) tensors.push_back(tensor_of(i, shapes[i]));
  tensors[1][0][0] = -0.0f;
  tensors[1][0][1] = std::numeric_limits<float>::denorm_min();
  tensors.push_back(tensor_of(99, {6, 4}).t());
  for (const bool reopen : {false, true}) {
    EmbeddingCache cache(folder, disk_only());
    EXPECT_FALSE(cache.get(key_of(1000)).has_value());
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!reopen) cache.put(key_of(static_cast<int>(i)), tensors[i]);
      const auto found = cache.get(key_of(static_cast<int>(i)));
      ASSERT_TRUE(found.has_value()) << i;
      EXPECT_EQ(found->sizes(), tensors[i].sizes());
      // Compared as bits: zero has a sign.
      EXPECT_TRUE(
          at::equal(found->contiguous().view(at::kInt), tensors[i].contiguous().view(at::kInt)))
          << i;
    }
    EXPECT_EQ(cache.stats().hits, static_cast<int64_t>(tensors.size()));
    EXPECT_EQ(cache.stats().disk_hits, reopen ? static_cast<int64_t>(tensors.size()) : 0);
    EXPECT_EQ(cache.stats().misses, 1);
  }
  EXPECT_EQ(files(folder, ".h5").size(), 1u);
}

TEST(EmbeddingCache, KeysHoldAllThatDecides) {
  const ClipRequest request{17, 8, 64, 48};
  std::vector<std::string> keys{posterior_key("abc", request, "haar"),
                                posterior_key("abd", request, "haar"),
                                posterior_key("abc", request, "haar2"),
                                posterior_key("abc", {16, 8, 64, 48}, "haar"),
                                posterior_key("abc", {17, 8.5, 64, 48}, "haar"),
                                posterior_key("abc", {17, 8, 48, 64}, "haar"),
                                text_key("abc", "haar"),
                                text_key("abd", "haar"),
                                text_key("abc", "haar2")};
  EXPECT_EQ(keys[0], posterior_key("abc", request, "haar"));
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
}

TEST(EmbeddingCache, BitFlipsAreNeverHandedOut) {
  const std::string original = temporary_folder("original"), folder = temporary_folder("flipped");
  constexpr int kRecords = 12;
  fill(original, 0, kRecords, {24, 384});
  const fs::path shard = files(original, ".h5").at(0);
  const uint64_t bits = fs::file_size(shard) * 8;
  int noticed = 0, whole = 0;
  for (uint64_t trial = 0; trial < 200; ++trial) {
    fs::remove_all(folder);
    fs::create_directories(folder);
    fs::copy_file(shard, fs::path(folder) / "shard.h5");
    // Half of the flips hit the first 4 KiB and the last 8 KiB, where HDF5 keeps what it needs to
    // read the rest.
    const uint64_t edge = 12 * 8 * 1024, at = below(edge, draw(3, trial));
    const uint64_t bit =
        trial % 2 == 0 ? below(bits, draw(2, trial)) : (at < edge / 3 ? at : bits - edge + at);
    flip_bit(fs::path(folder) / "shard.h5", bit);
    EmbeddingCache cache(folder, disk_only());
    int found = 0;
    for (int i = 0; i < kRecords; ++i) {
      const auto tensor = cache.get(key_of(i));
      if (!tensor) continue;
      ++found;
      ASSERT_TRUE(at::equal(*tensor, tensor_of(i, {24, 384}))) << "bit " << bit << ", record " << i;
    }
    // A flip in unused bytes harms nothing; any other sets the shard aside when the damage is met.
    if (found == kRecords) ++whole;
    if (cache.stats().quarantined == 1) {
      ++noticed;
      EXPECT_EQ(files(folder, ".bad").size(), 1u);
      EXPECT_EQ(cache.stats().shards, 0);
      EXPECT_FALSE(cache.get(key_of(0)).has_value());
    } else {
      EXPECT_EQ(found, kRecords) << "bit " << bit;
    }
  }
  EXPECT_EQ(noticed + whole, 200);
  EXPECT_GE(noticed, 100);
}

TEST(EmbeddingCache, TruncatedAndForeignFilesAreSetAside) {
  const std::string folder = temporary_folder("truncated");
  fill(folder, 0, 3, {100, 10});
  const fs::path shard = files(folder, ".h5").at(0);
  fs::copy_file(shard, shard.string() + ".copy");
  for (const double share : {0.0, 0.01, 0.5, 0.99}) {
    fs::copy_file(shard.string() + ".copy", shard, fs::copy_options::overwrite_existing);
    fs::resize_file(shard,
                    static_cast<uintmax_t>(share * static_cast<double>(fs::file_size(shard))));
    EmbeddingCache cache(folder, disk_only());
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(cache.get(key_of(i)).has_value()) << share;
    EXPECT_EQ(cache.stats().quarantined, 1) << share;
  }
  std::ofstream(folder + "/other.h5") << "not HDF5";
  EXPECT_EQ(EmbeddingCache(folder, disk_only()).stats().quarantined, 1);
}

TEST(EmbeddingCache, TemporaryFilesAreIgnoredAndOldOnesRemoved) {
  const std::string folder = temporary_folder("temporary");
  fill(folder, 0, 3, {100, 10});
  const fs::path shard = files(folder, ".h5").at(0);
  const std::string young = folder + "/a.h5.tmp.1", old = folder + "/b.h5.tmp.2";
  for (const std::string& path : {young, old}) {
    fs::copy_file(shard, path);
    fs::resize_file(path, fs::file_size(shard) / 2);
  }
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(25));
  EmbeddingCache cache(folder, disk_only());
  EXPECT_EQ(cache.stats().shards, 1);
  EXPECT_EQ(cache.stats().quarantined, 0);
  EXPECT_TRUE(fs::exists(young));
  EXPECT_FALSE(fs::exists(old));
}

TEST(EmbeddingCache, TwoWritersShareAFolder) {
  const std::string folder = temporary_folder("two_writers");
  EmbeddingCache a(folder, disk_only()), b(folder, disk_only());
  for (int i = 0; i < 10; ++i) (i % 2 == 0 ? a : b).put(key_of(i), tensor_of(i, {50}));
  a.put(key_of(1), tensor_of(1, {50}));  // both have it: harmless
  a.flush();
  b.flush();  // sees a's shard now
  EXPECT_TRUE(b.get(key_of(0)).has_value());
  EXPECT_FALSE(a.get(key_of(3)).has_value());
  EmbeddingCache c(folder, disk_only());
  EXPECT_EQ(c.stats().shards, 2);
  for (int i = 0; i < 10; ++i) {
    const auto found = c.get(key_of(i));
    ASSERT_TRUE(found.has_value()) << i;
    EXPECT_TRUE(at::equal(*found, tensor_of(i, {50})));
  }
  // A shard that another process evicts is a miss, not damage.
  for (const fs::path& path : files(folder, ".h5")) fs::remove(path);
  EmbeddingCache d(folder, disk_only());
  EXPECT_FALSE(d.get(key_of(0)).has_value());
  EXPECT_FALSE(b.get(key_of(0)).has_value() && b.get(key_of(0))->numel() != 50);
  EXPECT_EQ(b.stats().quarantined + d.stats().quarantined, 0);
}

TEST(EmbeddingCache, AnEvictedShardIsAMiss) {
  const std::string folder = temporary_folder("vanished");
  fill(folder, 0, 3, {50});
  EmbeddingCache cache(folder, disk_only());
  for (const fs::path& path : files(folder, ".h5")) fs::remove(path);
  EXPECT_FALSE(cache.get(key_of(0)).has_value());
  EXPECT_EQ(cache.stats().shards, 0);
  EXPECT_EQ(cache.stats().quarantined, 0);
}

TEST(EmbeddingCache, EvictsTheOldestShards) {
  const std::string folder = temporary_folder("eviction");
  for (int shard = 0; shard < 5; ++shard) {
    fill(folder, shard, 1, {10000});
    for (const fs::path& path : files(folder, ".h5")) {
      // Ages by an hour each round, so the order does not hang on the clock's resolution.
      fs::last_write_time(path, fs::last_write_time(path) - std::chrono::hours(1));
    }
  }
  const auto size = static_cast<int64_t>(fs::file_size(files(folder, ".h5").at(0)));
  EmbeddingCache cache(folder, CacheLimits{.disk_bytes = 3 * size + size / 2, .memory_bytes = 0});
  EXPECT_EQ(cache.stats().evicted, 2);
  EXPECT_EQ(cache.stats().shards, 3);
  EXPECT_LE(cache.stats().disk_bytes, 3 * size + size / 2);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(cache.get(key_of(i)).has_value(), i >= 2) << i;
  cache.put(key_of(5), tensor_of(5, {10000}));
  cache.flush();
  EXPECT_EQ(cache.stats().evicted, 3);
  EXPECT_FALSE(cache.get(key_of(2)).has_value());
  EXPECT_TRUE(cache.get(key_of(5)).has_value());
}

TEST(EmbeddingCache, WritesAShardWhenEnoughWaits) {
  const std::string folder = temporary_folder("flush");
  EmbeddingCache cache(folder, CacheLimits{.memory_bytes = 0, .flush_bytes = 4000});
  for (int i = 0; i < 25; ++i) cache.put(key_of(i), tensor_of(i, {100}));
  EXPECT_EQ(files(folder, ".h5").size(), 2u);
  for (int i = 0; i < 25; ++i) EXPECT_TRUE(cache.get(key_of(i)).has_value()) << i;
  EXPECT_EQ(cache.stats().disk_hits, 20);
  EXPECT_EQ(cache.stats().stored, 25);
}

TEST(EmbeddingCache, RefusesWhatMustNotBeKept) {
  EmbeddingCache cache("", CacheLimits{});
  EXPECT_THROW(cache.put("a", at::full({3}, std::numeric_limits<float>::quiet_NaN())), Error);
  EXPECT_THROW(cache.put("a", at::full({3}, std::numeric_limits<float>::infinity())), Error);
  EXPECT_THROW(cache.put("a", at::zeros({3}, at::kHalf)), Error);
  EXPECT_FALSE(cache.get("a").has_value());
  std::ofstream(testing::TempDir() + "cache_is_a_file") << "x";
  EXPECT_THROW(EmbeddingCache(testing::TempDir() + "cache_is_a_file/below", CacheLimits{}), Error);
}

TEST(EmbeddingCache, ADiskThatFailsCostsTheDiskHalfOnly) {
  const std::string folder = temporary_folder("failing");
  EmbeddingCache cache(folder, CacheLimits{});
  cache.put(key_of(0), tensor_of(0, {10}));
  fs::remove_all(folder);
  cache.flush();
  EXPECT_EQ(cache.stats().lost, 1);
  cache.put(key_of(1), tensor_of(1, {10}));
  cache.flush();
  EXPECT_TRUE(cache.get(key_of(0)).has_value());
  EXPECT_TRUE(cache.get(key_of(1)).has_value());
}

TEST(EmbeddingCache, ThreadsMayMix) {
  const std::string folder = temporary_folder("threads");
  EmbeddingCache cache(folder, CacheLimits{.memory_bytes = 20000, .flush_bytes = 30000});
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const int k = static_cast<int>(below(100, draw(t, i)));
        const auto found = cache.get(key_of(k));
        if (found && !at::equal(*found, tensor_of(k, {300}))) ++wrong;
        if (!found) cache.put(key_of(k), tensor_of(k, {300}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const CacheStats stats = cache.stats();
  EXPECT_EQ(stats.hits + stats.misses, 800);
  EXPECT_EQ(stats.lost + stats.quarantined, 0);
}

TEST(RecentTensors, TheLeastRecentlyUsedGoesFirst) {
  RecentTensors recent(3 * 40);
  for (const char* key : {"a", "b", "c"}) recent.put(key, at::ones({10}));
  EXPECT_EQ(recent.bytes(), 120);
  EXPECT_TRUE(recent.get("a").has_value());
  recent.put("d", at::ones({10}));
  EXPECT_FALSE(recent.get("b").has_value());
  for (const char* key : {"a", "c", "d"}) EXPECT_TRUE(recent.get(key).has_value()) << key;
  recent.put("large", at::ones({31}));
  EXPECT_FALSE(recent.get("large").has_value());
  recent.put("e", at::ones({30}));
  EXPECT_FALSE(recent.get("d").has_value());
  EXPECT_EQ(recent.bytes(), 120);
}

}  // namespace
}  // namespace pendulum
