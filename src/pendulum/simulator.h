// What a segment would do if it ran: balance and speed beside other layouts, drift and mixture, all
// from the cost model.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "pendulum/layouts.h"
#include "pendulum/plan.h"

namespace pendulum {

// A layout over all simulated micro-steps. A micro-step lasts as long as its slowest slot; the
// gradients are summed after as many samples as the plan's optimiser step holds, in all layouts.
struct LayoutResult {
  std::string name;
  bool fits = true;       // the memory of a device
  double memory = 0;      // bytes that the largest pass needs on a process
  double balance = 0;     // mean / slowest cost of a slot, over all micro-steps
  double exchange = 0;    // share of the time that is communication, the gradients' sum included
  double micro_step = 0;  // mean cost of the slowest slot
  double samples_per_micro_step = 0;
  double cost_per_sample = 0;  // of the whole cluster's time, the gradients' sum included
  double useful = 0;  // the model's FLOPs per process and FLOP that it could do: MFU where the rate
                      // is the device's best
  double missing = 0;  // share of optimiser steps that lack a bucket
};

struct Simulation {
  int64_t micro_steps = 0;
  std::vector<LayoutResult> layouts;  // as layouts_of
  double mean_imbalance =
      0;  // of the pendulum: max / mean time of a slot per micro-step, communication included
  double worst_imbalance = 0;   // the largest of any micro-step
  double drift = 0;             // largest |draws so far - expected| of any bucket, in draws
  double iid_drift = 0;         // the same with independent draws
  double sample_variation = 0;  // standard deviation / mean of the samples per optimiser step
  double opened_mean = 0;       // buckets that a slot opens per dwell
  int opened_most = 0;
  std::vector<double> expected_shares;  // of samples, by bucket
  std::vector<double> simulated_shares;
  // The largest drift of any bucket at some hundred moments, for the pendulum and independent
  // draws.
  struct DriftPoint {
    int64_t micro_step = 0;
    double pendulum = 0, iid = 0;
  };
  std::vector<DriftPoint> drift_curve;
  // The micro-step of median balance among the first 64: of the pendulum, and of independent slots
  // with one sample each.
  struct SlotMoment {
    int bucket = 0;
    double cost = 0;
  };
  std::vector<SlotMoment> typical, typical_iid;  // by slot
};

// Simulates the first `micro_steps` of segment `ordinal` (rounded up to whole optimiser steps, at
// least one).
Simulation simulate(const Plan& plan, int ordinal, int64_t micro_steps);

// The bucket of every slot where each draws by itself.
void independent_sources(const Segment& rule, uint64_t seed, int64_t t, std::vector<int>* out);

}  // namespace pendulum
