// The data plan that a run walks.
#pragma once
#include <vector>

#include "apps/machine.h"
#include "apps/run_folder.h"
#include "config/config.h"
#include "embed/embedder.h"
#include "pendulum/plan.h"

namespace pendulum {

// The plan of a run that begins, or of one that goes on: then what it has walked stays, whatever
// has changed since. ConfigError where the run may not go on.
Plan plan_run(const Config& config, const std::vector<SourceCatalogue>& catalogues,
              const Geometry& shapes, const RunFolder& folder, const Embedder& embedder,
              const Communicator& world);

// Says where the plan's costs were measured on another device.
void warn_of_measured_costs(const Plan& plan, const Machine& machine);

}  // namespace pendulum
