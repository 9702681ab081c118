// Reads and writes safetensors files: a JSON header and raw little-endian tensors behind it.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "safetensors/header.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// An open file, whose header has been read and checked. Tensors are read one by one when asked for,
// each into memory of its own: a file that shrinks meanwhile gives a DataError, where a memory map
// would end the process with SIGBUS. For weights that are too large for that there is map().
class SafetensorsFile {
 public:
  // DataError names the path and what is wrong. Nothing is allocated that the file's length does
  // not back.
  static SafetensorsFile open(const std::string& path);

  std::vector<std::string> names() const;  // sorted
  bool contains(const std::string& name) const { return header_.tensors.contains(name); }
  // DataError where there is no such tensor.
  const TensorInfo& info(const std::string& name) const;
  // A contiguous CPU tensor. Thread-safe.
  at::Tensor load(const std::string& name) const;
  // The file's own pages as a tensor, never to be written into: nothing is read before it is
  // touched, processes share what is, and the system takes it back when memory is short. A tensor
  // that does not lie at a multiple of its element's size is loaded instead. The price: who
  // truncates the file meanwhile ends this process with SIGBUS. Thread-safe.
  at::Tensor map(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const std::string& path() const { return path_; }

 private:
  SafetensorsFile() = default;
  const TensorPlace& place(const std::string& name) const;
  std::string path_;
  SafetensorsHeader header_;
  std::shared_ptr<const int> descriptor_;  // closes the file with its last copy
  int64_t data_start_ = 0;                 // byte in the file
};

// All tensors of a file.
std::map<std::string, at::Tensor> read_safetensors(const std::string& path);

// Writes under the publish protocol. Tensors may be on any device and of any stride. The bytes
// depend on the set of tensors and the metadata alone, and are those of the reference
// implementation: widest type first, then by name.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace pendulum
