// Parameters whose updates, gradients and values are dealt over processes: each belongs to one rank
// of a group, which alone keeps the optimiser's state of it (ZeRO; Rajbhandari et al., arXiv
// 1910.02054).
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "safetensors/named_tensors.h"
#include "shard/gradient_reduction.h"
#include "shard/pass_moment.h"
#include "shard/shard_layout.h"
#include "shard/unit_gather.h"
#include "shard/weight_residence.h"

namespace pendulum {

struct Sharding {
  // 0: nothing is dealt. 1: updates, with the optimiser's state and the average. 2: also gradients,
  // which every pass sums into their owners'. 3: also values, which come for the time of their use.
  int level = 0;
  int ranks = 1;        // neighbours that deal among themselves; 1 at level 0
  int first_block = 0;  // the first one that a gradient reaches; the number of blocks: none
};

class ShardedParameters {
 public:
  // `parameters`: all of a network's, fp32 and contiguous, the same on all ranks of `world`, which
  // outlives this object; those that require gradients are trained. Names decide units
  // (shard/shard_layout.h). At level 3 values that other ranks own are given back at once; they
  // need not have been set. Collective.
  ShardedParameters(NamedTensors parameters, Communicator& world, Sharding sharding);

  const NamedTensors& owned() const { return owned_; }  // the trained ones that this rank updates
  const NamedTensors& held() const { return held_; }    // those whose values are here at all times

  void zero_gradients();

  // Around each forward and backward pass of an optimiser step, which all ranks make side by side,
  // some without samples. Between the two observe() hears of the network's units: at level 3 their
  // values come and go, and gradients are summed in the background as they become complete, in
  // every pass at levels 2 and 3, in the last one else. Collective.
  void begin_pass(bool is_last);
  void end_pass();
  void observe(int unit, PassMoment moment);
  PassObserver observer() {
    return [this](int unit, PassMoment moment) { observe(unit, moment); };
  }
  // Whether observe() has anything to do.
  bool observes() const { return world_size_ > 1; }
  // The part of a rank that has no samples.
  void empty_pass();

  // Forward passes outside of these, as many as each rank likes; finish_forwards() when a rank has
  // made its own returns once all have. Collective.
  void finish_forwards();

  // Afterwards the gradients of owned() are the sums over the world, the others' undefined where
  // they are dealt. An undefined one counts as zero. Added in the order of the ranks within a group
  // and then of the groups; levels 2 and 3 add the ranks of a group in every pass, then passes,
  // then groups. Collective.
  void finish_gradients();

  // After an update: the owners' values reach everyone, at level 3 when they are used. Collective.
  void gather();

  // Norm over all gradients, in fp64, after finish_gradients(): the same bits on all ranks, however
  // they are dealt. Collective.
  double gradient_norm() const;
  // Norm over all trained parameters as this rank (at level 3: its group) holds them: the same bits
  // on ranks that hold the same. Collective.
  double parameter_norm() const;

  // In words, in which order gradients are added: the same words, the same bits.
  std::string order_of_sums() const;

  // What a checkpoint holds of a state that is dealt: shard/collect.h over the first group of the
  // world; empty in the others, which hold the same. Collective.
  NamedTensors collect(const NamedTensors& mine) const;

 private:
  void observe_weights(int unit, PassMoment moment);
  void agree_on_forward();
  bool any_has_forward(bool mine);
  int blocks() const { return static_cast<int>(layout_.all.size()) - 1; }
  bool has_backward(int unit) const { return unit > sharding_.first_block; }
  double norm(const std::vector<at::Tensor>& mine) const;

  NamedTensors parameters_;
  Sharding sharding_;
  int world_size_;
  bool is_first_group_;
  std::unique_ptr<Communicator> group_;     // those that deal among themselves
  std::unique_ptr<Communicator> replicas_;  // those that own the same
  ShardLayout layout_;
  NamedTensors owned_, held_;
  std::vector<size_t> owned_places_;  // in parameters_
  GradientReduction reduction_;
  std::unique_ptr<WeightResidence> residence_;  // level 3
  std::unique_ptr<UnitGather> gather_;          // of updates, at the levels below
  enum class Pass { none, early, last } pass_ = Pass::none;
  bool is_joining_ = false;  // in finish_forwards()
};

}  // namespace pendulum
