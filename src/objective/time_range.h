// The time at which a sample is trained: one draw from a distribution that is shifted and may be
// cut.
#pragma once
#include <cstdint>

#include "config/config.h"

namespace pendulum {

// In (0, 1), a function of the bits alone: `timestep` bent by the shift, and of that distribution
// the part in objective.time_range.
double draw_time(const ObjectiveConfig& objective, double shift, uint64_t bits);

}  // namespace pendulum
