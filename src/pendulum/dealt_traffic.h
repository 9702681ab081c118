// What processes send each other so that all of them train one model: sums of gradients, updated
// weights, and what goes to and fro because these are dealt (ZeRO).
#pragma once
#include "config/config.h"
#include "pendulum/cost.h"

namespace pendulum {

// Bytes that a process sends, and receives; docs/numerics.md has the formulas.
struct DealtTraffic {
  int level = 0;
  int processes = 1;           // that deal among themselves; at levels 0 and 1: 1
  bool is_within_slot = true;  // all of them belong to one slot
  // In every pass, at levels 2 and 3.
  double gathered = 0;  // weights, for forward and backward
  double reduced = 0;   // gradients
  double calls = 0;     // collective calls
  // Once in an optimiser step.
  double updated = 0;  // weights, at level 2
  double summed = 0;   // gradients over the groups that deal, then weights at level 1

  double in_pass() const { return gathered + reduced; }
};

// Of a full mesh, mesh.slots slots of mesh.slot processes.
DealtTraffic dealt_traffic(const Geometry& geometry, const MeshConfig& mesh);

// Costs as CostModel counts, as if computing hid nothing of them: of one pass, and of what comes
// once in a step.
double pass_cost(const DealtTraffic& traffic, const CostModel& model);
double step_cost(const DealtTraffic& traffic, const CostModel& model);

}  // namespace pendulum
