// Plan, packed data and embedding stage brought together: device batches, in order, ahead of the
// trainer.
#pragma once
#include <ATen/core/Tensor.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attention/slot_groups.h"
#include "batch/sources.h"
#include "batch/withdrawals.h"
#include "core/random.h"
#include "embed/embedding_stage.h"
#include "pendulum/plan.h"
#include "pendulum/walker.h"

namespace pendulum {

// Which part of every optimiser step this process works on (pendulum.md, "Physical mapping"): draw
// i belongs to physical slot i mod slots, and the groups of a draw are dealt in turn to the groups
// that the slot's processes form at the bucket's width.
struct Placement {
  int slots = 1;      // physical slots
  int processes = 1;  // of a physical slot
  int slot = 0;
  int member = 0;
};

// Of process `rank` of `world`; ConfigError names the world sizes that the mesh allows.
Placement place(int rank, int world, const MeshConfig& mesh);

// What was really used for one planned sample.
struct ConsumedSample {
  int64_t place = 0;    // its place among all samples of the optimiser step, in the plan's order
  int64_t ordinal = 0;  // of its bucket
  int64_t entry = 0;    // planned
  int replacement = 0;  // k of replacement(n, k); 0: the planned entry was used
  int64_t sample = 0;   // index in the source's packed data
};

// The samples of one group of one draw. B samples of one shape.
struct Batch {
  int bucket = 0;      // index in the segment's buckets
  at::Tensor latents;  // (B, C, F, h, w) fp32, drawn
  Conditions conditions{};
  std::vector<SampleKey> keys;
  std::vector<ConsumedSample> consumed;
  std::vector<std::string> unreadable;  // "id: reason" of each entry that could not be read
  std::shared_ptr<const Withdrawals> withdrawals;  // that held while it was built
};

// One optimiser step of this process: the whole plan of the step, and the batches that are its own
// or its group's.
struct StepBatches {
  StepPlan plan;
  int64_t num_samples = 0;  // of the whole step, all processes
  int num_batches = 0;      // to take with next()
  // The passes through the network that all processes make side by side: true where this one has a
  // batch. A batch is the same pass for all who share it; there are as many passes as the process
  // with the most of them needs.
  std::vector<bool> passes{};
};

class BatchBuilder {
 public:
  // All references outlive the builder. Batches begin where `walker` stands.
  BatchBuilder(const Plan& plan, PlanWalker walker, const Sources& sources, const Config& config,
               const Embedder& embedder, Placement placement, const SlotGroups& groups);

  // Steps and batches come strictly in the plan's order: begin_step, then next() num_batches times.
  // Errors of a worker are thrown here. A batch of a group of several processes is embedded by one
  // of them, in turn, and handed to the others: next() is collective in the group.
  StepBatches begin_step();
  Batch next();

  // From the next batch on these are not used but replaced, in batches too that are built already:
  // those are looked through and built anew where it matters. All processes do so at one step.
  // DataError where a bucket of this segment or a later one has no sample left.
  void withdraw(Withdrawals withdrawals, int segment);
  const Withdrawals& withdrawals() const { return *withdrawals_; }

  // Time the caller waited for data and time the workers worked, since the beginning. Waiting for
  // another process to embed a shared batch is waiting for data.
  WorkerStats stats() const;
  // Of the waiting, what was spent in collective calls.
  double waited_in_calls() const { return waited_in_calls_; }

 private:
  // The samples of a batch before they are read. Built as a whole, one per worker at a time.
  struct PlannedBatch {
    int segment = 0;
    int bucket = 0;
    std::vector<PlannedSample> samples;
    int64_t first_place = 0;
  };
  // A batch to come, by whom it is embedded.
  struct Expected {
    PlannedBatch planned;
    SequenceGroup* sharers = nullptr;
    int embedder = 0;  // its rank among them
  };
  void top_up();
  void plan_step();
  Batch build(const PlannedBatch& planned,
              const std::shared_ptr<const Withdrawals>& withdrawals) const;
  bool is_outdated(const PlannedBatch& planned, const Batch& batch) const;
  void share(const Expected& expected, Batch* batch);

  const Plan& plan_;
  PlanWalker walker_;
  const Sources& sources_;
  const Config& config_;
  const Embedder& embedder_;
  Placement placement_;
  const SlotGroups& groups_;
  std::map<const SequenceGroup*, int64_t> dealt_;  // batches so far, by group
  double waited_in_calls_ = 0;
  std::shared_ptr<const Withdrawals> withdrawals_ = std::make_shared<const Withdrawals>();
  std::deque<StepBatches> steps_;     // planned and not yet begun
  std::deque<Expected> expected_;     // planned and not yet taken
  std::deque<PlannedBatch> waiting_;  // planned and not yet handed to a worker
  OrderedWorkers<Batch> workers_;     // last: its threads use all of the above
};

}  // namespace pendulum
