// A new plan, or the checkpoint's with what has changed.
#include "apps/run_plan.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/embedding_parts.h"
#include "batch/sources.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "train/run_state.h"

namespace pendulum {
namespace {

// Where things lie belongs to the machine that asks; what they are, the plan's hash tells.
void take_places(const Config& from, Config* config) {
  for (auto& [name, source] : config->sources) {
    const auto found = from.sources.find(name);
    if (found == from.sources.end()) continue;
    // Folders are only added behind the others, so those of then are the first ones.
    const std::vector<std::string>& folders = found->second.data;
    for (size_t i = 0; i < std::min(folders.size(), source.data.size()); ++i)
      source.data[i] = folders[i];
  }
  if (config->codec.kind == from.codec.kind) config->codec.weights = from.codec.weights;
  if (config->text.kind == from.text.kind) config->text.weights = from.text.weights;
  if (config->image.kind == from.image.kind) config->image.weights = from.image.weights;
  if (!config->model.import.empty() && !from.model.import.empty())
    config->model.import = from.model.import;
}

}  // namespace

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

PlansAgain::PlansAgain(std::string run)
    : run_(std::move(run)),
      last_(load_config(run_ + "/config.yaml")),
      rights_(read_frozen_rights(run_ + "/" + kRightsFile)),
      options_(options_of(read_plan(run_))) {}

Config PlansAgain::config_at(const nlohmann::json& line) const {
  // Logs of earlier versions do not hold it; where the run was not changed it is the last one.
  if (!line.contains("config")) return last_;
  try {
    Config config = parse_config(line["config"].get<std::string>(), "the log's configuration");
    take_places(last_, &config);
    return config;
  } catch (const ConfigError& error) {
    throw DataError(error.what());
  }
}

RunPart PlansAgain::operator()(const nlohmann::json& line, const Plan* saved) const {
  const std::string frozen = line.value("rights_sha256", "");
  if (!frozen.empty() && frozen != sha256(print(rights_)))
    throw DataError(text(kRightsFile, " is not the one that the run began with"));
  Config config = config_at(line);
  config.embed.cache = "off";  // nothing is embedded
  const auto sources = std::make_shared<const Sources>(open_sources(config, rights_));
  const Geometry shapes = geometry(config, EmbeddingParts(config));
  const std::vector<SourceCatalogue> data = catalogues(*sources, config, shapes);
  if (saved) {
    const Plan walked = plan_from_manifest(saved->manifest());  // as from a checkpoint
    const auto finished = line.at("finished_steps").get<int64_t>();
    return {sources, continue_plan(walked, finished, config, data, shapes)};
  }
  // What was measured stands in plan.json alone; all else the configuration says.
  const bool is_measured = !config.mesh.calibration.empty();
  return {sources, make_plan(config, data, shapes,
                             is_measured ? options_ : plan_options(config.mesh, shapes))};
}

void warn_of_measured_costs(const Plan& plan, const Machine& machine) {
  const std::string& measured = plan.options.measured;
  if (measured.empty() || machine.world().rank() != 0) return;
  const std::string here = machine.device_words();
  if (measured.ends_with(here)) return;
  warn("costs were measured {}, this is {}: batches and widths may not suit it", measured, here);
}

}  // namespace pendulum
