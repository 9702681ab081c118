// Parameters that all ranks hold and whose updates are dealt out: each is updated by one rank of a
// group, which alone keeps the optimiser's state of it (ZeRO-1; Rajbhandari et al., arXiv
// 1910.02054). Whole tensors are dealt, not stretches of a flat vector: optimisers that work on
// matrices need them whole.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// For each of `sizes` the part of 0..parts-1 that takes it, so that the largest part is small: the
// largest first, each to the part that holds least. A function of its arguments alone.
std::vector<int> deal(const std::vector<int64_t>& sizes, int parts);

class ShardedParameters {
 public:
  // `parameters`: the trained ones, fp32 and contiguous, the same on all ranks of `world`, which
  // outlives this object. Groups of `ranks` neighbours deal the updates; 1: every rank updates
  // everything. Collective.
  ShardedParameters(NamedTensors parameters, Communicator& world, int ranks);

  const NamedTensors& all() const { return parameters_; }
  const NamedTensors& owned() const { return owned_; }  // what this rank updates

  void zero_gradients();

  // Afterwards the gradients of owned() are the sums over the world, added in the order of the
  // ranks within a group and then of the groups; an undefined one counts as zero. The others' are
  // released where updates are dealt. Collective.
  void reduce_gradients();

  // After an update: the owners' values reach everyone. Collective.
  void gather();

  // Norm over all gradients, in fp64, after reduce_gradients(): the same bits on all ranks, however
  // updates are dealt. Collective.
  double gradient_norm() const;
  // Norm over all parameters as this rank holds them: the same bits on ranks that hold the same.
  double parameter_norm() const;

  // What a checkpoint holds of a state that is dealt: shard/collect.h over the first group of the
  // world; empty in the others, which hold the same. Collective.
  NamedTensors collect(const NamedTensors& mine) const;

 private:
  // Where the parameters that one rank owns lie in its flat part.
  struct Piece {
    size_t parameter;
    int64_t begin;
  };
  struct Part {
    std::vector<Piece> pieces;
    int64_t length = 0;
  };
  // Flat view of a parameter's values or gradient; undefined: none.
  using Flat = std::function<at::Tensor(size_t parameter)>;

  void pack(const Part& part, int64_t first, const at::Tensor& window, const Flat& from) const;
  void unpack(const Part& part, int64_t first, const at::Tensor& window, const Flat& to) const;
  const Part& own_part() const { return parts_[group_->rank()]; }
  int64_t longest() const;

  NamedTensors parameters_;
  NamedTensors owned_;
  bool is_first_group_;
  std::vector<int> owners_;                 // rank in the group, by parameter
  std::vector<Part> parts_;                 // by rank in the group
  std::unique_ptr<Communicator> group_;     // those that deal updates among themselves
  std::unique_ptr<Communicator> replicas_;  // those that own the same
};

}  // namespace pendulum
