// Every byte that is handed out is under a SHA-256: HDF5's own checksums cover chunks, not the
// table's meaning.
#include "embed/cache_shard.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "core/publish.h"

namespace pendulum {
namespace {

constexpr const char* kFormat = "pendulum embedding cache 1";

std::string content_hash(const std::string& key, const std::vector<int64_t>& shape,
                         const float* values, int64_t count) {
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(values),
                                       count * sizeof(float));
  return sha256(text(key, " ", nlohmann::json(shape).dump(), " ", sha256(bytes)));
}

// The number of values of a shape; negative where the shape is none.
int64_t count_of(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || size > kMaxShardBytes || count * size > kMaxShardBytes) return -1;
    count *= size;
  }
  return count;
}

void write_file(const std::string& path, const NamedTensors& records) {
  nlohmann::json table = nlohmann::json::array();
  std::vector<float> values;
  for (const auto& [key, tensor] : records) {
    check(tensor.scalar_type() == at::kFloat && tensor.is_contiguous() && tensor.is_cpu(),
          "a contiguous fp32 tensor on the CPU");
    const float* data = tensor.const_data_ptr<float>();
    table.push_back({{"key", key},
                     {"shape", tensor.sizes().vec()},
                     {"first", values.size()},
                     {"content", content_hash(key, tensor.sizes().vec(), data, tensor.numel())}});
    values.insert(values.end(), data, data + tensor.numel());
  }
  const std::string words = table.dump();
  Hdf5File file = Hdf5File::create(path);
  file.write_attribute("format", kFormat);
  file.write_attribute("table_sha256", sha256(words));
  file.write("table", std::span(reinterpret_cast<const uint8_t*>(words.data()), words.size()));
  file.write("values", values);
  file.close();
}

}  // namespace

void write_cache_shard(const std::string& path, const NamedTensors& records) {
  publish_file(path, [&](const std::string& temporary) {
    write_file(temporary, records);
    const Hdf5File written = Hdf5File::open(temporary);
    const CacheTable table = read_cache_table(written);
    for (const auto& [key, tensor] : records) {
      const auto place = table.find(key);
      if (place == table.end() ||
          !at::equal(load_cache_record(written, key, place->second), tensor)) {
        throw DataError(text(temporary, ": does not hold what was written to it"));
      }
    }
  });
}

CacheTable read_cache_table(const Hdf5File& shard) {
  const std::string format = shard.read_attribute("format");
  if (format != kFormat) {
    throw DataError(text(shard.path(), ": is of format '", format, "', expected '", kFormat, "'"));
  }
  const std::vector<uint8_t> bytes = shard.read_bytes("table");
  if (sha256(bytes) != shard.read_attribute("table_sha256")) {
    throw DataError(text(shard.path(), ": the table of keys is damaged"));
  }
  // The hash has held, so what follows is what write_file wrote.
  const nlohmann::json table = nlohmann::json::parse(bytes);
  CacheTable places;
  for (const auto& record : table) {
    places[record.at("key")] = {record.at("shape"), record.at("first"), record.at("content")};
  }
  return places;
}

at::Tensor load_cache_record(const Hdf5File& shard, const std::string& key,
                             const CachePlace& place) {
  const int64_t count = count_of(place.shape);
  if (count < 0) throw DataError(text(shard.path(), ": a record's shape is none"));
  const std::vector<float> values = shard.read_floats("values", place.first, count);
  if (content_hash(key, place.shape, values.data(), count) != place.content) {
    throw DataError(text(shard.path(), ": a record's bytes are damaged"));
  }
  at::Tensor tensor = at::empty(place.shape, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
  return tensor;
}

}  // namespace pendulum
