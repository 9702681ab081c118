// Windows of all ranks' parts through all_gather.
#include "shard/unit_gather.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"

namespace pendulum {

void UnitGather::start(size_t unit, const Flat& from) {
  if (under_way_.contains(unit)) return;
  const at::NoGradGuard no_grad;
  std::vector<Window>& windows = under_way_[unit];
  const int64_t longest = parts_[unit].longest();
  for (int64_t first = 0; first < longest; first += kWindow) {
    const int64_t length = std::min(kWindow, longest - first);
    const at::Tensor mine = at::zeros({length}, options_);
    const at::Tensor all = at::empty({group_.size(), length}, options_);
    pack(parts_[unit][group_.rank()], first, mine, from);
    windows.push_back({first, mine, all, group_.all_gather(mine, all)});
  }
}

void UnitGather::finish(size_t unit, const Flat& to) {
  const auto found = under_way_.find(unit);
  check(found != under_way_.end(), "a unit under way: ", unit);
  const at::NoGradGuard no_grad;
  for (Window& window : found->second) {
    window.handle.wait();
    for (int rank = 0; rank < group_.size(); ++rank) {
      if (rank != group_.rank()) unpack(parts_[unit][rank], window.first, window.all[rank], to);
    }
    window.mine.reset();
    window.all.reset();
  }
  under_way_.erase(found);
}

void UnitGather::poll() {
  for (auto& [unit, windows] : under_way_) {
    for (Window& window : windows) window.handle.done();
  }
}

}  // namespace pendulum
