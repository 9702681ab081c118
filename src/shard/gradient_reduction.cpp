// Reduce-scatter inside the group, then all-reduce over the groups.
#include "shard/gradient_reduction.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace pendulum {

GradientReduction::GradientReduction(const NamedTensors& parameters, const ShardLayout& layout,
                                     Communicator& group, Communicator& replicas)
    : parameters_(parameters),
      layout_(layout),
      group_(group),
      replicas_(replicas),
      sums_(parameters.size()) {}

void GradientReduction::start(size_t unit, bool is_last) {
  if (layout_.trained[unit].longest() == 0) return;  // frozen
  const at::NoGradGuard no_grad;
  advance(1);
  scatter(unit, is_last);
}

void GradientReduction::scatter(size_t unit, bool is_last) {
  const Parts& parts = layout_.trained[unit];
  std::vector<at::Tensor> gradients(parameters_.size());
  for (const Part& part : parts) {
    for (const Part::Piece& piece : part.pieces) {
      at::Tensor parameter = parameters_[piece.parameter].second;
      if (parameter.grad().defined()) gradients[piece.parameter] = parameter.grad().contiguous();
      parameter.mutable_grad().reset();
    }
  }
  UnderWay call{unit, is_last, {}};
  const auto options = parameters_.front().second.options().requires_grad(false);
  if (group_.size() == 1) {
    for (const Part::Piece& piece : parts[0].pieces) {
      at::Tensor& gradient = gradients[piece.parameter];
      if (!gradient.defined())
        gradient = at::zeros_like(parameters_[piece.parameter].second.detach());
      at::Tensor& sum = sums_[piece.parameter];
      sum = sum.defined() ? sum.add_(gradient) : gradient;
    }
  } else {
    const Flat gradient = [&](size_t i) {
      return gradients[i].defined() ? gradients[i].view(-1) : at::Tensor();
    };
    for (int64_t first = 0; first < parts.longest(); first += kWindow) {
      const int64_t length = std::min(kWindow, parts.longest() - first);
      const at::Tensor all = at::zeros({group_.size(), length}, options);
      const at::Tensor sum = at::empty({length}, options);
      for (int rank = 0; rank < group_.size(); ++rank)
        pack(parts[rank], first, all[rank], gradient);
      call.windows.push_back({first, all, sum, group_.reduce_scatter(all, sum)});
    }
  }
  scattered_.push_back(std::move(call));
}

// Of the group, into the sum over the passes.
void GradientReduction::take_sums(UnderWay& done) {
  std::vector<at::Tensor> arrived(parameters_.size());
  if (group_.size() == 1) return;
  for (const Part::Piece& piece : own_part(done.unit).pieces)
    arrived[piece.parameter] = at::empty_like(parameters_[piece.parameter].second.detach());
  const Flat to = [&](size_t i) { return arrived[i].view(-1); };
  for (Window& window : done.windows) {
    window.handle.wait();
    unpack(own_part(done.unit), window.first, window.sum, to);
    window.all.reset();
  }
  for (const Part::Piece& piece : own_part(done.unit).pieces) {
    at::Tensor& sum = sums_[piece.parameter];
    sum = sum.defined() ? sum.add_(arrived[piece.parameter]) : arrived[piece.parameter];
  }
}

void GradientReduction::add_replicas(size_t unit) {
  UnderWay call{unit, true, {}};
  const auto options = parameters_.front().second.options().requires_grad(false);
  const Part& part = own_part(unit);
  const Flat from = [this](size_t i) { return sums_[i].view(-1); };
  for (int64_t first = 0; first < part.length; first += kWindow) {
    const at::Tensor sum = at::empty({std::min(kWindow, part.length - first)}, options);
    pack(part, first, sum, from);
    call.windows.push_back({first, {}, sum, replicas_.all_reduce(sum)});
  }
  replicated_.push_back(std::move(call));
}

void GradientReduction::take_totals(UnderWay& done) {
  const Flat to = [this](size_t i) { return sums_[i].view(-1); };
  for (Window& window : done.windows) {
    window.handle.wait();
    unpack(own_part(done.unit), window.first, window.sum, to);
  }
}

// Completes the oldest until `left` are under way in either direction. What is waited for and begun
// depends on the calls so far, never on timing, so all ranks make the same calls.
void GradientReduction::advance(size_t left) {
  while (scattered_.size() > left) {
    UnderWay done = std::move(scattered_.front());
    scattered_.pop_front();
    take_sums(done);
    if (done.is_last && replicas_.size() > 1) add_replicas(done.unit);
  }
  while (replicated_.size() > left) {
    take_totals(replicated_.front());
    replicated_.pop_front();
  }
}

void GradientReduction::finish() {
  const at::NoGradGuard no_grad;
  advance(0);
  for (size_t i = 0; i < sums_.size(); ++i) {
    if (!sums_[i].defined()) continue;
    at::Tensor parameter = parameters_[i].second;
    parameter.mutable_grad() = std::move(sums_[i]);
    sums_[i].reset();
  }
}

void GradientReduction::discard() {
  for (at::Tensor& sum : sums_) sum.reset();
}

void GradientReduction::poll() {
  for (std::deque<UnderWay>* calls : {&scattered_, &replicated_}) {
    for (UnderWay& call : *calls) {
      for (Window& window : call.windows) window.handle.done();
    }
  }
}

}  // namespace pendulum
