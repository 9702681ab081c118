// Ways to give the slots of a micro-step their work: the pendulum, and those it is compared with.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "pendulum/plan.h"
#include "pendulum/segment.h"

namespace pendulum {

// How buckets come to slots.
enum class Drawing {
  swing,        // by the plan's rule
  independent,  // every slot by itself, by chance
  same,         // all slots the same bucket, the rule over time
  rerouted,     // by the plan's rule, then every sample to whichever group is free first
};

// A bucket's draw by one slot. Costs as CostModel counts, per process.
struct SlotLoad {
  double cost = 0;      // of the slot's groups, communication included
  double exchange = 0;  // of it, communication
  double useful = 0;    // the model's FLOPs of all its samples, of all processes together
  int64_t block = 1;    // samples
};

// Groups of equal width among which re-routed samples are dealt.
struct Bags {
  int width = 1;
  int64_t count = 0;
};

struct Layout {
  std::string name;
  Drawing drawing = Drawing::swing;
  std::vector<SlotLoad> loads;  // by bucket of the segment
  std::vector<Bags> bags;       // Drawing::rerouted
  // Memory in bytes that the largest pass needs on a process, the model's state included, and
  // whether the device has it.
  double memory = 0;
  bool fits = true;
};

// Of segment `ordinal`: the plan's own layout first; then independent slots (one sample each; the
// plan's draws), equal tokens and equal cost at width 1, equal cost with one width for all, one
// bucket for all slots, and re-routing to groups of one width and of two. Where the memory is
// known, one width for all and re-routing take the width, or the split, that is best of those that
// fit.
std::vector<Layout> layouts_of(const Plan& plan, int ordinal);

// The draw rule under which a layout trains on the mixture of the plan: rates follow from its
// draws' sizes.
Segment rule_of(const Plan& plan, const SegmentPlan& segment, int ordinal, const Layout& layout);

// How many micro-steps of a layout hold as many samples as the plan's optimiser step, at least one.
int64_t micro_steps_per_step(const SegmentPlan& segment, const Layout& layout);

// What re-routing makes of a micro-step: samples by bucket (of the plan's draws), dealt the
// costliest first, each to the group that would finish it first.
struct Rerouted {
  double slowest = 0;   // cost of the group that is ready last
  double mean = 0;      // over processes
  double exchange = 0;  // mean cost of communication, the moving of samples included
};
Rerouted reroute(const Plan& plan, const SegmentPlan& segment, const std::vector<Bags>& bags,
                 const std::vector<int64_t>& samples);

}  // namespace pendulum
