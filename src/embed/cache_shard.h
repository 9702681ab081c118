// One shard of the embedding cache: an immutable HDF5 file of fp32 tensors with its own table of
// keys.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/hdf5_file.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// Datasets: "values", fp32, the tensors one behind the other; "table", JSON bytes. Attributes:
// "format", and "table_sha256" over the table.
struct CachePlace {
  std::vector<int64_t> shape;
  int64_t first = 0;    // index in "values"
  std::string content;  // SHA-256 over key, shape and bytes
};
using CacheTable = std::unordered_map<std::string, CachePlace>;

inline constexpr int64_t kMaxShardBytes = 256 << 20;

// Writes under the publish protocol and reads every record back before the file gets its name.
// Tensors are fp32, contiguous, on the CPU. Error or DataError where that fails; there is no file
// then.
void write_cache_shard(const std::string& path, const NamedTensors& records);

// DataError names the path and what is wrong: damaged bytes, another format.
CacheTable read_cache_table(const Hdf5File& shard);

// DataError where the bytes are not those that were stored under this key.
at::Tensor load_cache_record(const Hdf5File& shard, const std::string& key,
                             const CachePlace& place);

}  // namespace pendulum
