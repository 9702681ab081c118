// What happens at which moment of a pass, norms, and the way back to all ranks.
#include "shard/sharded_parameters.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "ops/adamw.h"
#include "shard/collect.h"

namespace pendulum {

ShardedParameters::ShardedParameters(NamedTensors parameters, Communicator& world,
                                     Sharding sharding)
    : parameters_(std::move(parameters)),
      sharding_(sharding),
      world_size_(world.size()),
      is_first_group_(world.rank() < sharding.ranks),
      group_(world.split(world.rank() / sharding.ranks, world.rank())),
      replicas_(world.split(world.rank() % sharding.ranks, world.rank())),
      layout_(parameters_, sharding.ranks),
      reduction_(parameters_, layout_, *group_, *replicas_) {
  check(sharding.ranks >= 1 && world.size() % sharding.ranks == 0, "groups of ", sharding.ranks,
        " in a world of ", world.size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    check(parameter.is_contiguous() && parameter.scalar_type() == at::kFloat,
          "a contiguous fp32 parameter: ", name);
    const bool is_mine = layout_.owners[i] == group_->rank();
    if (is_mine || sharding.level < 3) held_.push_back(parameters_[i]);
    if (!is_mine || !parameter.requires_grad()) continue;
    owned_.push_back(parameters_[i]);
    owned_places_.push_back(i);
  }
  if (group_->size() == 1) return;  // it has all there is
  if (sharding.level == 3) {
    residence_ = std::make_unique<WeightResidence>(parameters_, layout_, *group_);
  } else {
    gather_ = std::make_unique<UnitGather>(
        layout_.trained, *group_, parameters_.front().second.options().requires_grad(false));
  }
}

void ShardedParameters::zero_gradients() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
  reduction_.discard();
}

void ShardedParameters::begin_pass(bool is_last) {
  check(pass_ == Pass::none, "a pass that has ended before the next one");
  pass_ = is_last ? Pass::last : Pass::early;
}

void ShardedParameters::end_pass() {
  observe(0, PassMoment::after_backward);
  pass_ = Pass::none;
}

void ShardedParameters::observe(int unit, PassMoment moment) {
  if (!observes()) return;
  if (residence_) observe_weights(unit, moment);
  const bool reduces = pass_ == Pass::last || (pass_ == Pass::early && sharding_.level >= 2);
  if (reduces && moment == PassMoment::after_backward) reduction_.start(unit, pass_ == Pass::last);
  // MPI moves messages only while it is called.
  reduction_.poll();
  if (residence_) residence_->poll();
}

// The last block of a training pass stays for the backward pass, which begins with it; unit 0 is
// there from the beginning to the end. What is sent for ahead is always what comes next: kept, it
// would be out of date after an update.
void ShardedParameters::observe_weights(int unit, PassMoment moment) {
  const bool trains = pass_ != Pass::none;
  switch (moment) {
    case PassMoment::before_forward:
      if (unit == 0 && !trains) agree_on_forward();
      residence_->acquire(unit, unit < blocks() ? unit + 1 : WeightResidence::kNone);
      break;
    case PassMoment::after_forward:
      if (!trains || (unit > 0 && (unit < blocks() || !has_backward(unit))))
        residence_->release(unit);
      break;
    case PassMoment::before_backward:
      residence_->acquire(unit,
                          unit > 1 && has_backward(unit - 1) ? unit - 1 : WeightResidence::kNone);
      break;
    case PassMoment::after_backward:
      residence_->release(unit);
      break;
  }
}

void ShardedParameters::empty_pass() {
  observe(0, PassMoment::before_forward);
  for (int unit = 1; unit <= blocks(); ++unit) {
    observe(unit, PassMoment::before_forward);
    observe(unit, PassMoment::after_forward);
  }
  observe(0, PassMoment::after_forward);
  if (pass_ == Pass::none) return;
  for (int unit = blocks(); unit > 0 && has_backward(unit); --unit) {
    observe(unit, PassMoment::before_backward);
    observe(unit, PassMoment::after_backward);
  }
}

bool ShardedParameters::any_has_forward(bool mine) {
  at::Tensor any = at::full({1}, int64_t{mine}, at::kLong);
  group_->all_reduce(any, Reduce::max).wait();
  return any.item<int64_t>() != 0;
}

void ShardedParameters::agree_on_forward() {
  if (!is_joining_) any_has_forward(true);
}

void ShardedParameters::finish_forwards() {
  if (!residence_) return;
  is_joining_ = true;
  while (any_has_forward(false)) empty_pass();
  is_joining_ = false;
}

void ShardedParameters::finish_gradients() {
  if (observes()) reduction_.finish();
}

void ShardedParameters::gather() {
  if (!gather_) return;
  const Flat value = [this](size_t i) { return parameters_[i].second.detach().view(-1); };
  gather_->start(0, value, value);
  for (size_t unit = 0; unit < layout_.trained.size(); ++unit) {
    if (unit + 1 < layout_.trained.size()) gather_->start(unit + 1, value, value);
    gather_->finish(unit);
  }
}

// One number a parameter, from its owner, added in the parameters' order.
double ShardedParameters::norm(const std::vector<at::Tensor>& mine) const {
  const std::vector<double> squares = squares_of(mine);
  at::Tensor all = at::zeros({static_cast<int64_t>(parameters_.size())}, at::kDouble);
  for (size_t i = 0; i < squares.size(); ++i)
    all[static_cast<int64_t>(owned_places_[i])] = squares[i];
  if (group_->size() > 1) group_->all_reduce(all).wait();
  const double* values = all.const_data_ptr<double>();
  return std::sqrt(std::accumulate(values, values + all.numel(), 0.0));
}

double ShardedParameters::gradient_norm() const {
  std::vector<at::Tensor> mine;
  for (const auto& [name, parameter] : owned_) {
    const at::Tensor& g = parameter.grad();
    mine.push_back(g.defined() ? g : at::zeros({0}, parameter.options().requires_grad(false)));
  }
  return norm(mine);
}

double ShardedParameters::parameter_norm() const {
  std::vector<at::Tensor> values;
  if (residence_) {
    for (const auto& [name, parameter] : owned_) values.push_back(parameter.detach());
    return norm(values);
  }
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.requires_grad()) values.push_back(parameter.detach());
  }
  return std::sqrt(sum_of_squares(values));
}

std::string ShardedParameters::order_of_sums() const {
  const bool in_groups = group_->size() > 1 && replicas_->size() > 1;
  return text(sharding_.level >= 2 && group_->size() > 1 ? "over processes in every pass"
                                                         : "over passes, then processes",
              in_groups ? text(" in groups of ", group_->size()) : "");
}

NamedTensors ShardedParameters::collect(const NamedTensors& mine) const {
  return is_first_group_ ? collect_on_first(mine, *group_) : NamedTensors();
}

}  // namespace pendulum
