// The data plan that a run walks, and the same plan made again by those who ask later.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/machine.h"
#include "apps/run_folder.h"
#include "config/config.h"
#include "embed/embedder.h"
#include "pendulum/plan.h"
#include "provenance/replay.h"
#include "rights/frozen.h"

namespace pendulum {

// The plan of a run that begins, or of one that goes on: then what it has walked stays, whatever
// has changed since. ConfigError where the run may not go on.
Plan plan_run(const Config& config, const std::vector<SourceCatalogue>& catalogues,
              const Geometry& shapes, const RunFolder& folder, const Embedder& embedder,
              const Communicator& world);

// Makes plan_run's plans again from what the consumption log recorded of their configurations, the
// packs, and a run's folder. Packs, and weights of codec and encoders, may have moved since: they
// are taken from where the folder's config.yaml names them.
class PlansAgain {
 public:
  // DataError, ConfigError where plan.json, config.yaml or rights.json cannot be read.
  explicit PlansAgain(std::string run);

  // As PlanAgain of replay(). DataError where rights.json is not the one that the line names.
  RunPart operator()(const nlohmann::json& line, const Plan* saved) const;

 private:
  Config config_at(const nlohmann::json& line) const;

  std::string run_;
  Config last_;  // config.yaml
  FrozenRights rights_;
  PlanOptions options_;  // plan.json's
};

// Says where the plan's costs were measured on another device.
void warn_of_measured_costs(const Plan& plan, const Machine& machine);

}  // namespace pendulum
