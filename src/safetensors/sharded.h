// A set of weights that may be spread over several safetensors files by an index.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "safetensors/safetensors.h"

namespace pendulum {

class ShardedSafetensors {
 public:
  // path: one .safetensors file, an index (*.safetensors.index.json, as transformers and diffusers
  // write it), or a folder that holds exactly one of these. DataError names the file and what is
  // wrong, such as an index that names a missing tensor.
  static ShardedSafetensors open(const std::string& path);

  std::vector<std::string> names() const;  // sorted
  bool contains(const std::string& name) const { return file_of_.contains(name); }
  const TensorInfo& info(const std::string& name) const { return file(name).info(name); }
  // DataError where the tensor is missing or has another number of dimensions.
  const std::vector<int64_t>& shape(const std::string& name, size_t dimensions) const;
  at::Tensor load(const std::string& name) const { return file(name).load(name); }
  at::Tensor map(const std::string& name) const { return file(name).map(name); }
  const std::string& path() const { return path_; }
  // The index, where there is one, and the files of tensors.
  std::vector<std::string> paths() const;

 private:
  ShardedSafetensors() = default;
  const SafetensorsFile& file(const std::string& name) const;
  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> file_of_;  // tensor -> place in files_
};

// Writes `folder`/`stem`.safetensors where the tensors fit into `most_bytes`, else
// `stem`-00001-of-0000n.safetensors and so on, each at most so large unless one tensor alone is
// larger, and the index that open() reads; in the given order. What was there under these names is
// replaced.
void write_sharded_safetensors(const std::string& folder, const std::string& stem,
                               const NamedTensors& tensors, uint64_t most_bytes,
                               const std::map<std::string, std::string>& metadata = {});

}  // namespace pendulum
