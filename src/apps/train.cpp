// pendulum train: wires the parts in the order in which data flows, and trains.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>

#include "apps/commands.h"
#include "apps/embedding_parts.h"
#include "apps/export_warning.h"
#include "apps/machine.h"
#include "apps/run_folder.h"
#include "apps/run_origins.h"
#include "apps/run_plan.h"
#include "apps/start_model.h"
#include "attention/slot_groups.h"
#include "batch/batch_builder.h"
#include "batch/sources.h"
#include "core/log.h"
#include "optim/optimizer.h"
#include "pendulum/plan.h"
#include "shard/sharded_parameters.h"
#include "train/parity_check.h"
#include "train/trainer.h"

namespace pendulum {
namespace {

struct TrainOptions : ConfigOptions {
  bool fresh = false;
  bool resume = false;
  std::string stage;
};

// Whether any stage asks for an average of the weights.
bool keeps_average(const Config& config) {
  return std::any_of(config.stages.begin(), config.stages.end(),
                     [](const StageConfig& s) { return s.optim.ema > 0; });
}

Sharding sharding(const MeshConfig& mesh, const Placement& placement, const Communicator& world,
                  const VideoTransformer& model) {
  if (mesh.zero == 0) return {0, 1, model.first_trained_block()};
  const int ranks = mesh.zero_within == "slot" ? placement.processes : world.size();
  if (ranks == 1 && world.size() > 1 && world.rank() == 0)
    warn("mesh.zero_within is slot, and a slot is one process: nothing is dealt");
  return {mesh.zero, ranks, model.first_trained_block()};
}

int train(const TrainOptions& options) {
  const Config config = load_config(options.path, options.overrides);
  const Machine machine(config.mesh);
  const RunFolder folder(config, machine.world(), options.fresh, options.resume);
  if (machine.world().rank() == 0) warn_of_export(config);

  const std::vector<Origin> origins = run_origins(config, folder, machine.world());
  const Sources sources = open_sources(config, folder.rights());
  const EmbeddingParts embedding(config);
  const Geometry shapes = geometry(config, embedding);
  const Plan plan = plan_run(config, catalogues(sources, config, shapes), shapes, folder,
                             embedding.embedder, machine.world());
  folder.describe(config, plan, sources);
  warn_of_measured_costs(plan, machine);

  StartModel start = start_model(config, embedding);
  VideoTransformer& model = start.model;
  set_up_passes(model, config.model, machine);

  Communicator& world = machine.world();
  const Placement placement = place(world.rank(), world.size(), config.mesh);
  check_world_memory(plan, placement.processes);
  const SlotGroups groups(world, placement.processes, plan.widths(), model.config().heads);
  check_parity(groups, model.config(), machine.device(), machine.compute_type(),
               parse_activation_checkpointing(config.model.activation_checkpointing));
  select_trainable(model.trainable(), config.model.trainable);
  ShardedParameters weights(model.parameters(), world,
                            sharding(config.mesh, placement, world, model));
  set_weights(start, weights.held(), config);
  if (weights.observes()) model.set_observer(weights.observer());
  Optimizer optimizer(weights.owned(), parse_optimizer_kind(config.optim.kind),
                      keeps_average(config), parse_average_memory(config.optim.ema_memory));

  Trainer trainer({config, plan, sources, embedding.embedder, world, placement, groups, model,
                   start.base_fingerprint, weights, optimizer, machine.peak_flops(), folder.path(),
                   log_details(config, folder, origins), machine.stop_signal()});
  if (!folder.checkpoint().empty()) trainer.resume_from(folder.checkpoint());
  return trainer.run(options.stage) == RunEnd::stopped ? kStoppedBySignal : kSuccess;
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command =
      app.add_subcommand("train", "train through all stages; goes on where a run was stopped");
  add_config_options(*command, *options);
  CLI::Option* fresh = command->add_flag("--fresh", options->fresh,
                                         "start anew; what the run folder holds is moved aside");
  command
      ->add_flag("--resume", options->resume,
                 "insist on going on: an error where there is nothing to go on from")
      ->excludes(fresh);
  command->add_option("--stage", options->stage, "stop after this stage");
  command->callback(
      [options, &exit_code] { with_places(*options, [&] { exit_code = train(*options); }); });
}

}  // namespace pendulum
