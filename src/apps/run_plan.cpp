// A new plan, or the checkpoint's with what has changed.
#include "apps/run_plan.h"

#include <nlohmann/json.hpp>

#include "checkpoint/manifest.h"
#include "core/log.h"
#include "train/run_state.h"

namespace pendulum {

Plan plan_run(const Config& config, const std::vector<SourceCatalogue>& catalogues,
              const Geometry& shapes, const RunFolder& folder, const Embedder& embedder,
              const Communicator& world) {
  if (folder.checkpoint().empty()) return make_plan(config, catalogues, shapes);
  const nlohmann::json state = read_checkpoint_manifest(folder.checkpoint()).state;
  const Plan saved = plan_from_manifest(state.at("plan"));
  const auto finished = state.at("finished_steps").get<int64_t>();
  Plan plan = continue_plan(saved, finished, config, catalogues, shapes);
  // Before anything in the run's folder is overwritten.
  compatible_state(state, config, plan, embedding_key(embedder));
  if (plan.changes.size() > saved.changes.size() && world.rank() == 0) {
    warn("the plan changes after step {}: a new segment begins", finished);
    for (const std::string& what : plan.changes.back().what) warn("  {}", what);
  }
  return plan;
}

void warn_of_measured_costs(const Plan& plan, const Machine& machine) {
  const std::string& measured = plan.options.measured;
  if (measured.empty() || machine.world().rank() != 0) return;
  const std::string here = machine.device_words();
  if (measured.ends_with(here)) return;
  warn("costs were measured {}, this is {}: batches and widths may not suit it", measured, here);
}

}  // namespace pendulum
