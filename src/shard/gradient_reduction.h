// Sums gradients over processes, unit by unit, while the backward pass goes on.
#pragma once
#include <deque>
#include <vector>

#include "comm/communicator.h"
#include "safetensors/named_tensors.h"
#include "shard/shard_layout.h"

namespace pendulum {

// Each rank of `group` receives the sum of what it owns, in the order of the ranks; then the sums
// of the ranks of `replicas`, which own the same, are added in theirs.
class GradientReduction {
 public:
  // All outlive this object. `parameters` in the layout's order, fp32.
  GradientReduction(const NamedTensors& parameters, const ShardLayout& layout, Communicator& group,
                    Communicator& replicas);

  // Takes the unit's gradients away and begins to sum them; those of earlier passes are added to.
  // One that is undefined counts as zero. is_last: this pass completes the sum. Every rank makes
  // the same calls in the same order. At most two units are under way: of the one before the last
  // the end is waited for.
  void start(size_t unit, bool is_last);
  // Waits for all. What this rank owns has the sums as its gradients then.
  void finish();
  void discard();  // the sums
  // Moves what is under way on; never waits.
  void poll();

 private:
  struct Window {
    int64_t first;
    at::Tensor all, sum;  // (ranks, length), (length)
    Handle handle;
  };
  struct UnderWay {
    size_t unit;
    bool is_last;
    std::vector<Window> windows;
  };
  void scatter(size_t unit, bool is_last);
  void take_sums(UnderWay& done);
  void add_replicas(size_t unit);
  void take_totals(UnderWay& done);
  void advance(size_t left);
  const Part& own_part(size_t unit) const { return layout_.trained[unit][group_.rank()]; }

  const NamedTensors& parameters_;
  const ShardLayout& layout_;
  Communicator& group_;
  Communicator& replicas_;
  std::vector<at::Tensor> sums_;  // by parameter; undefined but for what this rank owns
  std::deque<UnderWay> scattered_, replicated_;
};

}  // namespace pendulum
