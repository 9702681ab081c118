// The learning rate as a function of the step within a stage.
#pragma once
#include <cstdint>

#include "config/config.h"

namespace pendulum {

// Rate of optimiser step `step` (from 0) of a stage of `steps`: linear warm-up over config.warmup,
// then constant, or a cosine or straight line down to final_lr x lr at the stage's last step.
double learning_rate(const OptimConfig& config, int64_t step, int64_t steps);

}  // namespace pendulum
