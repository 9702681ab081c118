// What a segment would do if it ran: balance beside other ways of batching, drift and mixture, all
// from the cost model.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "pendulum/plan.h"

namespace pendulum {

// One way to give the slots work. FLOPs per process stand for time.
struct SchemeResult {
  std::string name;
  double utilisation =
      0;  // useful FLOPs / (processes * the slowest slot's time), over all micro-steps
  double micro_step = 0;        // mean time of the slowest slot
  double samples_per_step = 0;  // per optimiser step
};

struct Simulation {
  int64_t micro_steps = 0;
  // "pendulum", "iid" (one sample per slot), equal tokens and equal cost at width 1, equal cost
  // with the widest for all.
  std::vector<SchemeResult> schemes;
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
};

// Simulates the first `micro_steps` of segment `ordinal` (rounded up to whole optimiser steps, at
// least one).
Simulation simulate(const Plan& plan, int ordinal, int64_t micro_steps);

}  // namespace pendulum
