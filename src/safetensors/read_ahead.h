// Tensors of published weights in a given order, read from the disk while earlier ones are in use.
#pragma once
#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "safetensors/sharded.h"

namespace pendulum {

// Mapped (SafetensorsFile::map): what is read ahead lies in the system's file cache, at most 256 MB
// of it and a tensor, and nowhere else. `tensors` outlives it.
class ReadAhead {
 public:
  ReadAhead(const ShardedSafetensors& tensors, std::vector<std::string> names);
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  ~ReadAhead();

  // The first of the names, then the second, and so on; one call for each. Waits for the disk.
  // Errors as of map().
  at::Tensor next();

 private:
  void read();

  const ShardedSafetensors& tensors_;
  const std::vector<std::string> names_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<at::Tensor> ready_;
  int64_t ready_bytes_ = 0;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace pendulum
