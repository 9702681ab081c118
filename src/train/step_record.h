// What one optimiser step did, as metrics, console and TensorBoard tell it.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pendulum {

struct StepRecord {
  int64_t step = 0;        // finished steps of the run, 1-based
  int64_t stage_step = 0;  // within the stage, 1-based
  int64_t stage_steps = 0;
  std::string stage{};
  uint64_t digest = 0;  // of the plan's draws in this step
  double loss =
      0;  // what was optimised: sum of sample losses over the constant expected number of samples
  double sample_loss = 0;                     // mean over the samples of this step, for the eye
  std::map<std::string, double> by_source{};  // mean sample loss
  std::vector<double> by_sample{};            // in the plan's order; empty unless asked for
  double gradient_norm = 0;                   // before clipping
  double learning_rate = 0;
  bool is_skipped = false;  // not finite: nothing was updated
  int64_t samples = 0;      // all processes
  int64_t tokens = 0;
  double flops = 0;  // model FLOPs, all processes, nothing recomputed
  std::map<std::string, double> flops_by_source{};
  double seconds = 0;
  double wait_seconds = 0;  // of them, this process waited for data
  double comm_seconds = 0;  // of them, this process was in collective calls: bytes, and other ranks
  int64_t replaced = 0;     // samples in place of which another was read, all processes
  int64_t withdrawn = 0;    // samples replaced because they are withdrawn, all processes
};

}  // namespace pendulum
