// Positions, cursors and digests along the plan.
#include "pendulum/walker.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "pendulum/draw_size.h"

namespace pendulum {
namespace {

std::vector<int> members_of(const SegmentPlan& segment) {
  std::vector<int> out;
  for (const BucketPlan& bucket : segment.buckets) out.push_back(bucket.index);
  return out;
}

// Samples planned before a position, by place in Plan::buckets.
std::vector<int64_t> planned_before(const Plan& plan, Position position) {
  std::vector<int64_t> out(plan.buckets.size());
  for (int i = 0; i <= position.segment && i < static_cast<int>(plan.segments.size()); ++i) {
    const SegmentPlan& segment = plan.segments[i];
    const int64_t steps = i < position.segment ? segment.steps : position.step;
    const std::vector<int64_t> draws =
        segment.segment(plan.seed, i).draws_before(steps * segment.accumulate);
    for (size_t s = 0; s < draws.size(); ++s) {
      out[segment.buckets[s].index] += draws[s] * segment.buckets[s].block;
    }
  }
  return out;
}

void check_position(const Plan& plan, Position position) {
  const int count = static_cast<int>(plan.segments.size());
  const bool inside = position.segment >= 0 && position.segment < count && position.step >= 0 &&
                      position.step <= plan.segments[position.segment].steps;
  const bool end = position == Position{count, 0};
  check(inside || end, "a position in the plan: segment ", position.segment, ", step ",
        position.step);
}

// Processes per slot and slots for a world size, wide first; 0 slots where it is not possible.
WorldLayout layout_of(int processes, const MeshConfig& mesh) {
  for (int width = std::min(mesh.slot, processes); width >= 1; --width) {
    if (mesh.slot % width != 0 || processes % width != 0) continue;
    if (processes / width <= mesh.slots * mesh.accumulate) return {processes / width, width, ""};
  }
  return {0, 0, ""};
}

std::string valid_sizes(const MeshConfig& mesh) {
  std::vector<std::string> all, even;
  const int draws = mesh.slots * mesh.accumulate;
  for (int size = 1; size <= mesh.slot * draws; ++size) {
    const WorldLayout layout = layout_of(size, mesh);
    if (layout.physical_slots == 0) continue;
    all.push_back(std::to_string(size));
    if (draws % layout.physical_slots == 0) even.push_back(std::to_string(size));
  }
  if (all.size() <= 16) return fmt::format("{}", fmt::join(all, ", "));
  const size_t kept = std::min<size_t>(even.size(), 16);
  return fmt::format("{}{} (no process idles with these; the largest possible is {})",
                     fmt::join(even.end() - kept, even.end(), ", "),
                     kept < even.size() ? " and smaller ones" : "", all.back());
}

}  // namespace

PlanWalker::PlanWalker(const Plan& plan) : plan_(plan), buckets_(plan.buckets) {
  for (size_t i = 0; i < plan.segments.size(); ++i) {
    segments_.push_back(plan.segments[i].segment(plan.seed, static_cast<int>(i)));
    members_.push_back(members_of(plan.segments[i]));
  }
  enter();
}

// Moves over segments that are complete.
void PlanWalker::enter() {
  while (!done() && position_.step >= plan_.segments[position_.segment].steps) {
    position_ = {position_.segment + 1, 0};
    swing_ = {};
  }
}

bool PlanWalker::done() const { return position_.segment >= static_cast<int>(segments_.size()); }

StepPlan PlanWalker::next() {
  check(!done(), "a step left in the plan");
  const auto [number, step] = position_;
  const Segment& segment = segments_[number];
  const std::vector<int>& members = members_[number];
  const int accumulate = plan_.segments[number].accumulate;
  StepPlan out;
  out.segment = number;
  out.step = step;
  out.first_t = step * accumulate;
  for (int a = 0; a < accumulate; ++a) {
    std::vector<Draw> draws = segment.samples(out.first_t + a, buckets_, members, swing_);
    out.micro_digests.push_back(segment.digest(out.first_t + a, draws, buckets_, members));
    digest_ = draw(digest_, out.micro_digests.back());
    for (Draw& slot : draws) out.draws.push_back(std::move(slot));
  }
  out.digest = digest_;
  ++position_.step;
  enter();
  return out;
}

void PlanWalker::seek(Position position, uint64_t running_digest) {
  check_position(plan_, position);
  const std::vector<int64_t> planned = planned_before(plan_, position);
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i].cursor = planned[i];
  position_ = position;
  digest_ = running_digest;
  swing_ = {};
  enter();
}

std::map<std::string, int64_t> PlanWalker::cursors() const {
  std::map<std::string, int64_t> out;
  for (const Bucket& bucket : buckets_) out[bucket.name] = bucket.cursor;
  return out;
}

std::map<std::string, int64_t> cursors_at(const Plan& plan, Position position) {
  check_position(plan, position);
  const std::vector<int64_t> planned = planned_before(plan, position);
  std::map<std::string, int64_t> out;
  for (size_t i = 0; i < planned.size(); ++i) out[plan.buckets[i].name] = planned[i];
  return out;
}

int64_t attempted_entry(const Plan& plan, const BucketPlan& bucket, const PlannedSample& planned,
                        int64_t k) {
  if (k == 0) return planned.entry;
  return plan.buckets[bucket.index].replacement(plan.seed, planned.ordinal, k);
}

Position position_after(const Plan& plan, int64_t done) {
  check(done >= 0 && done <= plan.total_steps(), "a step of the run: ", done);
  Position position{0, done};
  while (position.segment < static_cast<int>(plan.segments.size()) &&
         position.step >= plan.segments[position.segment].steps) {
    position.step -= plan.segments[position.segment++].steps;
  }
  return position;
}

int64_t steps_before(const Plan& plan, Position position) {
  check_position(plan, position);
  int64_t steps = position.step;
  for (int i = 0; i < position.segment; ++i) steps += plan.segments[i].steps;
  return steps;
}

std::vector<int> draws_of(int physical_slot, int physical_slots, int draws) {
  check(physical_slot >= 0 && physical_slot < physical_slots, "a physical slot: ", physical_slot,
        " of ", physical_slots);
  std::vector<int> out;
  for (int i = physical_slot; i < draws; i += physical_slots) out.push_back(i);
  return out;
}

int passes(int physical_slots, int draws) { return (draws + physical_slots - 1) / physical_slots; }

void check_world_memory(const Plan& plan, int processes_per_slot) {
  for (const SegmentPlan& segment : plan.segments) {
    for (const BucketPlan& bucket : segment.buckets) {
      const int width = std::gcd(bucket.width, processes_per_slot);
      if (width == bucket.width || samples_in_memory(plan, bucket.shape, width) >= bucket.batch)
        continue;
      throw ConfigError(fmt::format(
          "mesh.slot: the slots of this job have {} process{}, too few for bucket {} of stage {}: "
          "the plan shares a sample among {}, and among {} it does not fit "
          "mesh.device_memory_gb {:g}. Start a multiple of {} processes",
          processes_per_slot, processes_per_slot == 1 ? "" : "es", bucket.name, segment.stage_name,
          bucket.width, width, plan.options.memory_bytes * 1e-9, bucket.width));
    }
  }
}

WorldLayout lay_out_world(int processes, const MeshConfig& mesh) {
  const int draws = mesh.slots * mesh.accumulate;
  WorldLayout layout = layout_of(processes, mesh);
  if (processes < 1 || layout.physical_slots == 0) {
    throw ConfigError(fmt::format(
        "mesh: {} processes do not fit mesh.slot {}, mesh.slots {} and mesh.accumulate {}: a "
        "step has {} draws, so "
        "some would never have work. Possible: {}",
        processes, mesh.slot, mesh.slots, mesh.accumulate, draws, valid_sizes(mesh)));
  }
  if (draws % layout.physical_slots != 0) {
    layout.warning =
        fmt::format("{} physical slots share {} draws per step unevenly: {} of {} passes are empty",
                    layout.physical_slots, draws,
                    passes(layout.physical_slots, draws) * layout.physical_slots - draws,
                    passes(layout.physical_slots, draws) * layout.physical_slots);
  }
  return layout;
}

}  // namespace pendulum
