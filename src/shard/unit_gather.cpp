// Windows of all ranks' parts through all_gather.
#include "shard/unit_gather.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace pendulum {

UnitGather::UnitGather(const std::vector<Parts>& parts, Communicator& group,
                       at::TensorOptions options, bool writes_ahead)
    : parts_(parts),
      group_(group),
      options_(options),
      side_(group),
      writes_ahead_(writes_ahead),
      buffers_{CollectiveBuffer(group, CallKind::all_gather),
               CollectiveBuffer(group, CallKind::all_gather)} {
  for (const Parts& unit : parts)
    buffer_bytes_ = std::max(buffer_bytes_, group.size() * std::min(kWindow, unit.longest()) *
                                                static_cast<int64_t>(options.dtype().itemsize()));
}

void UnitGather::start(size_t unit, const Flat& from, const Flat& to) {
  if (is_under_way(unit)) return;
  const at::NoGradGuard no_grad;
  UnderWay& call = under_way_[unit];
  if (writes_ahead_) {
    call.written = side_.run([&] { pass_through(unit, from, to); });
    return;
  }
  call.to = to;
  for (int64_t first = 0; first < parts_[unit].longest(); first += kWindow)
    call.windows.push_back(send(unit, from, first, nullptr));
}

// All of a unit, a window on its way while the one before is written. The buffers come with the
// first one, when what others own has been given back.
void UnitGather::pass_through(size_t unit, const Flat& from, const Flat& to) {
  for (CollectiveBuffer& buffer : buffers_) buffer.reserve(buffer_bytes_, options_.device());
  Window before;
  for (int64_t first = 0; first < parts_[unit].longest(); first += kWindow) {
    Window next = send(unit, from, first, &buffers_.at(first / kWindow % 2));
    if (first > 0) write(unit, to, before);
    before = std::move(next);
  }
  if (before.all.defined()) write(unit, to, before);
}

// What lies behind the end of a rank's part is sent as it is, and nobody reads it.
UnitGather::Window UnitGather::send(size_t unit, const Flat& from, int64_t first,
                                    CollectiveBuffer* buffer) {
  const std::array<int64_t, 2> sizes{group_.size(),
                                     std::min(kWindow, parts_[unit].longest() - first)};
  const at::Tensor all = buffer ? buffer->take(sizes, options_) : at::empty(sizes, options_);
  const at::Tensor mine = all[group_.rank()];
  pack(parts_[unit][group_.rank()], first, mine, from);
  return {first, all, group_.all_gather(mine, all)};
}

void UnitGather::write(size_t unit, const Flat& to, Window& window) {
  window.handle.wait();
  for (int rank = 0; rank < group_.size(); ++rank) {
    if (rank != group_.rank()) unpack(parts_[unit][rank], window.first, window.all[rank], to);
  }
  window = {};
}

void UnitGather::finish(size_t unit) {
  const auto found = under_way_.find(unit);
  check(found != under_way_.end(), "a unit under way: ", unit);
  const at::NoGradGuard no_grad;
  UnderWay& call = found->second;
  for (Window& window : call.windows) write(unit, call.to, window);
  side_.join(call.written);
  under_way_.erase(found);
}

void UnitGather::poll() {
  for (auto& [unit, call] : under_way_) {
    for (Window& window : call.windows) window.handle.done();
  }
}

}  // namespace pendulum
