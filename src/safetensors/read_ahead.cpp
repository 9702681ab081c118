// A thread that asks the system for the pages of the next tensors.
#include "safetensors/read_ahead.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "core/error.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; the headers of Debian 11 lack it
#endif

namespace pendulum {
namespace {

constexpr int64_t kMostAhead = int64_t{256} << 20;

// Returns when the pages are there, or, on kernels that know no better, when they are asked for.
void fetch(const at::Tensor& tensor) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  const uintptr_t start = begin / page * page;
  auto* const place = reinterpret_cast<void*>(start);
  const size_t length = begin + tensor.nbytes() - start;
  if (::madvise(place, length, MADV_POPULATE_READ) != 0) ::madvise(place, length, MADV_WILLNEED);
}

}  // namespace

ReadAhead::ReadAhead(const ShardedSafetensors& tensors, std::vector<std::string> names)
    : tensors_(tensors), names_(std::move(names)), thread_([this] { read(); }) {}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ReadAhead::read() {
  try {
    for (const std::string& name : names_) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || ready_bytes_ < kMostAhead; });
        if (stopping_) return;
      }
      at::Tensor tensor = tensors_.map(name);
      if (tensor.nbytes() > 0) fetch(tensor);
      const std::lock_guard lock(mutex_);
      ready_bytes_ += static_cast<int64_t>(tensor.nbytes());
      ready_.push_back(std::move(tensor));
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
    changed_.notify_all();
  }
}

at::Tensor ReadAhead::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || !ready_.empty(); });
  if (ready_.empty()) std::rethrow_exception(failure_);
  at::Tensor tensor = std::move(ready_.front());
  ready_.pop_front();
  ready_bytes_ -= static_cast<int64_t>(tensor.nbytes());
  changed_.notify_all();
  return tensor;
}

}  // namespace pendulum
