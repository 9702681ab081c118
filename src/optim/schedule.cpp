// Warm-up and decay of the learning rate.
#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace pendulum {

double learning_rate(const OptimConfig& config, int64_t step, int64_t steps) {
  const int64_t warmup = config.warmup.count;
  if (step < warmup)
    return config.lr * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  if (config.schedule == "constant") return config.lr;
  const double span = static_cast<double>(std::max<int64_t>(1, steps - 1 - warmup));
  const double done = std::clamp(static_cast<double>(step - warmup) / span, 0.0, 1.0);
  const double floor = config.final_lr;
  if (config.schedule == "linear") return config.lr * (1 + (floor - 1) * done);
  check(config.schedule == "cosine", "schedule is constant, linear or cosine, not ",
        config.schedule);
  return config.lr * (floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * done)));
}

}  // namespace pendulum
