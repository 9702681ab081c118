// Dealing, summing, gathering. Flat windows bound the memory that a collective call takes beside
// the tensors.
#include "shard/sharded_parameters.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "ops/adamw.h"
#include "shard/collect.h"

namespace pendulum {
namespace {

constexpr int64_t kWindow = int64_t{4} << 20;  // numbers of each rank in one call

// The stretch of a window that a piece fills, and where it stands in the piece.
struct Overlap {
  int64_t in_window, in_piece, count;
};
Overlap overlap(int64_t first, int64_t length, int64_t begin, int64_t count) {
  const int64_t from = std::max(first, begin), to = std::min(first + length, begin + count);
  return {from - first, from - begin, std::max<int64_t>(0, to - from)};
}

}  // namespace

std::vector<int> deal(const std::vector<int64_t>& sizes, int parts) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  std::vector<int64_t> load(parts);
  std::vector<int> part_of(sizes.size());
  for (const size_t i : order) {
    const auto lightest = std::min_element(load.begin(), load.end());
    *lightest += sizes[i];
    part_of[i] = static_cast<int>(lightest - load.begin());
  }
  return part_of;
}

ShardedParameters::ShardedParameters(NamedTensors parameters, Communicator& world, int ranks)
    : parameters_(std::move(parameters)), is_first_group_(world.rank() < ranks) {
  check(ranks >= 1 && world.size() % ranks == 0, "groups of ", ranks, " in a world of ",
        world.size());
  group_ = world.split(world.rank() / ranks, world.rank());
  replicas_ = world.split(world.rank() % ranks, world.rank());
  std::vector<int64_t> sizes;
  for (const auto& [name, parameter] : parameters_) {
    check(parameter.is_contiguous() && parameter.scalar_type() == at::kFloat,
          "a contiguous fp32 parameter: ", name);
    sizes.push_back(parameter.numel());
  }
  owners_ = deal(sizes, ranks);
  parts_.resize(ranks);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Part& part = parts_[owners_[i]];
    part.pieces.push_back({i, part.length});
    part.length += sizes[i];
    if (owners_[i] == group_->rank()) owned_.push_back(parameters_[i]);
  }
}

int64_t ShardedParameters::longest() const {
  int64_t length = 0;
  for (const Part& part : parts_) length = std::max(length, part.length);
  return length;
}

void ShardedParameters::pack(const Part& part, int64_t first, const at::Tensor& window,
                             const Flat& from) const {
  for (const Piece& piece : part.pieces) {
    const Overlap o =
        overlap(first, window.numel(), piece.begin, parameters_[piece.parameter].second.numel());
    const at::Tensor flat = o.count > 0 ? from(piece.parameter) : at::Tensor();
    if (flat.defined())
      window.narrow(0, o.in_window, o.count).copy_(flat.narrow(0, o.in_piece, o.count));
  }
}

void ShardedParameters::unpack(const Part& part, int64_t first, const at::Tensor& window,
                               const Flat& to) const {
  for (const Piece& piece : part.pieces) {
    const Overlap o =
        overlap(first, window.numel(), piece.begin, parameters_[piece.parameter].second.numel());
    if (o.count > 0)
      to(piece.parameter)
          .narrow(0, o.in_piece, o.count)
          .copy_(window.narrow(0, o.in_window, o.count));
  }
}

void ShardedParameters::zero_gradients() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

void ShardedParameters::reduce_gradients() {
  if (group_->size() * replicas_->size() == 1) return;
  const at::NoGradGuard no_grad;
  for (auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined()) parameter.mutable_grad() = parameter.grad().contiguous();
  }
  for (auto& [name, parameter] : owned_) {
    if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter.detach());
  }
  const Flat gradient = [this](size_t i) {
    const at::Tensor& g = parameters_[i].second.grad();
    return g.defined() ? g.view(-1) : g;
  };
  const auto options = parameters_.front().second.options().requires_grad(false);
  for (int64_t first = 0; first < longest(); first += kWindow) {
    const int64_t length = std::min(kWindow, longest() - first);
    const at::Tensor window = at::zeros({group_->size(), length}, options);
    for (int rank = 0; rank < group_->size(); ++rank)
      pack(parts_[rank], first, window[rank], gradient);
    at::Tensor sum = window[0];
    if (group_->size() > 1) {
      sum = at::empty({length}, options);
      group_->reduce_scatter(window, sum).wait();
    }
    if (replicas_->size() > 1) replicas_->all_reduce(sum).wait();
    unpack(own_part(), first, sum, gradient);
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (owners_[i] != group_->rank()) parameters_[i].second.mutable_grad().reset();
  }
}

void ShardedParameters::gather() {
  if (group_->size() == 1) return;
  const at::NoGradGuard no_grad;
  const Flat value = [this](size_t i) { return parameters_[i].second.detach().view(-1); };
  const auto options = parameters_.front().second.options().requires_grad(false);
  for (int64_t first = 0; first < longest(); first += kWindow) {
    const int64_t length = std::min(kWindow, longest() - first);
    const at::Tensor mine = at::zeros({length}, options);
    const at::Tensor all = at::empty({group_->size(), length}, options);
    pack(own_part(), first, mine, value);
    group_->all_gather(mine, all).wait();
    for (int rank = 0; rank < group_->size(); ++rank) {
      if (rank != group_->rank()) unpack(parts_[rank], first, all[rank], value);
    }
  }
}

// One number a parameter, from its owner, added in the parameters' order.
double ShardedParameters::gradient_norm() const {
  std::vector<at::Tensor> mine;
  for (const auto& [name, parameter] : owned_) {
    const at::Tensor& g = parameter.grad();
    mine.push_back(g.defined() ? g : at::zeros({0}, parameter.options().requires_grad(false)));
  }
  const std::vector<double> squares = squares_of(mine);
  at::Tensor all = at::zeros({static_cast<int64_t>(parameters_.size())}, at::kDouble);
  for (size_t i = 0; i < squares.size(); ++i)
    all[static_cast<int64_t>(own_part().pieces[i].parameter)] = squares[i];
  if (group_->size() > 1) group_->all_reduce(all).wait();
  const double* values = all.const_data_ptr<double>();
  return std::sqrt(std::accumulate(values, values + all.numel(), 0.0));
}

double ShardedParameters::parameter_norm() const {
  std::vector<at::Tensor> values;
  for (const auto& [name, parameter] : parameters_) values.push_back(parameter.detach());
  return std::sqrt(sum_of_squares(values));
}

NamedTensors ShardedParameters::collect(const NamedTensors& mine) const {
  return is_first_group_ ? collect_on_first(mine, *group_) : NamedTensors();
}

}  // namespace pendulum
