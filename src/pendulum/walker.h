// Walks the plan step by step: the draws of every optimiser step, from any position, on any number
// of processes.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "config/config.h"
#include "pendulum/plan.h"
#include "pendulum/segment.h"

namespace pendulum {

struct Position {
  int segment = 0;
  int64_t step = 0;  // optimiser step within the segment
  auto operator<=>(const Position&) const = default;
};

// One optimiser step. Draw i = a * slots + j is slot j's in micro-step first_t + a.
struct StepPlan {
  int segment = 0;
  int64_t step = 0;
  int64_t first_t = 0;
  std::vector<Draw> draws;
  std::vector<uint64_t> micro_digests;  // by micro-step
  uint64_t digest = 0;                  // running over the whole run, this step included
};

class PlanWalker {
 public:
  // Keeps a reference: the plan outlives the walker.
  explicit PlanWalker(const Plan& plan);

  // Plans the next optimiser step; check() fails when done().
  StepPlan next();

  // Continues from a position as if it had been walked to; cursors are recomputed in closed form.
  // `running_digest` is what was saved there: it covers the steps before and cannot be had without
  // walking them.
  void seek(Position position, uint64_t running_digest);

  bool done() const;
  Position position() const { return position_; }  // of the step that next() will plan
  uint64_t running_digest() const { return digest_; }
  // Samples planned so far, by bucket.
  std::map<std::string, int64_t> cursors() const;

 private:
  void enter();

  const Plan& plan_;
  std::vector<Bucket> buckets_;
  std::vector<Segment> segments_;
  std::vector<std::vector<int>> members_;  // by segment: places in buckets_
  Swing swing_;
  Position position_;
  uint64_t digest_ = 0;
};

// Samples planned before a position, by bucket: what a checkpoint at that position records,
// whatever was prefetched.
std::map<std::string, int64_t> cursors_at(const Plan& plan, Position position);

// The entry of the k-th attempt at a planned sample: the planned one for k = 0, then those that
// take its place where it is withdrawn or cannot be read.
int64_t attempted_entry(const Plan& plan, const BucketPlan& bucket, const PlannedSample& planned,
                        int64_t k);

// Position after `done` optimiser steps of the run, and its inverse.
Position position_after(const Plan& plan, int64_t done);
int64_t steps_before(const Plan& plan, Position position);

// Numbers of the draws that belong to a physical slot: i mod physical_slots. Every physical slot
// makes passes() passes; one without a draw takes part in the collectives and adds nothing.
std::vector<int> draws_of(int physical_slot, int physical_slots, int draws);
int passes(int physical_slots, int draws);

// How the processes that there are take the place of the logical slots.
struct WorldLayout {
  int physical_slots = 1;
  int processes_per_slot = 1;  // divides mesh.slot
  std::string warning;         // not empty where some physical slots idle in some passes
};

// ConfigError where a slot of so many processes cannot hold a sample that the plan shares among
// more: it would run at smaller width, and not fit the memory.
void check_world_memory(const Plan& plan, int processes_per_slot);

// Throws ConfigError that names the valid sizes where some processes would never have work.
WorldLayout lay_out_world(int processes, const MeshConfig& mesh);

}  // namespace pendulum
