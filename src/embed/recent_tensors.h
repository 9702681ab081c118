// Tensors in memory under a limit of bytes: what was asked for longest ago goes first.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace pendulum {

// Not thread-safe.
class RecentTensors {
 public:
  explicit RecentTensors(int64_t limit_bytes) : limit_(limit_bytes) {}

  std::optional<at::Tensor> get(const std::string& key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return std::nullopt;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }

  // A tensor above the limit is not kept.
  void put(const std::string& key, const at::Tensor& tensor) {
    if (places_.contains(key) || static_cast<int64_t>(tensor.nbytes()) > limit_) return;
    order_.emplace_front(key, tensor);
    places_.emplace(key, order_.begin());
    bytes_ += static_cast<int64_t>(tensor.nbytes());
    while (bytes_ > limit_) {
      bytes_ -= static_cast<int64_t>(order_.back().second.nbytes());
      places_.erase(order_.back().first);
      order_.pop_back();
    }
  }

  int64_t bytes() const { return bytes_; }

 private:
  using Order = std::list<std::pair<std::string, at::Tensor>>;  // last used first
  int64_t limit_;
  int64_t bytes_ = 0;
  Order order_;
  std::unordered_map<std::string, Order::iterator> places_;
};

}  // namespace pendulum
