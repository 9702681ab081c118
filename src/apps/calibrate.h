// pendulum plan --calibrate: times the passes of a plan's buckets on the device at hand and fits
// the cost model to them.
#pragma once
#include <string>

#include "apps/machine.h"
#include "apps/training_pass.h"
#include "config/config.h"
#include "pendulum/calibration.h"
#include "pendulum/plan.h"

namespace pendulum {

// A calibration for the shapes of `plan`, at the widths that both mesh.slot and the processes at
// hand allow. Shapes of which a pass would take more than `longest` seconds are left out with a
// line that says so. Collective; the same on every process. ConfigError where not even the lightest
// can be run.
Calibration calibrate(const Plan& plan, TrainingPass& pass, const Machine& machine, double longest);

// Checks that the model at least fits the memory of this machine before it is made. ConfigError
// says what it needs and what there is.
void check_calibration_memory(const Geometry& geometry, const Machine& machine);

// Measured beside fitted, pass by pass, with the median and the worst error.
std::string calibration_table(const Calibration& calibration);

}  // namespace pendulum
