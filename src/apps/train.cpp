// pendulum train: wires the parts in the order in which data flows, and trains.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>

#include "apps/commands.h"
#include "apps/embedding_parts.h"
#include "apps/machine.h"
#include "apps/run_folder.h"
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

int ranks_that_share_updates(const MeshConfig& mesh, const Placement& placement,
                             const Communicator& world) {
  if (mesh.zero == 0) return 1;
  const int ranks = mesh.zero_within == "slot" ? placement.processes : world.size();
  if (ranks == 1 && world.size() > 1 && world.rank() == 0)
    warn("mesh.zero_within is slot, and a slot is one process: nothing is dealt");
  return ranks;
}

int train(const TrainOptions& options) {
  const Config config = load_config(options.path, options.overrides);
  const Machine machine(config.mesh);
  const RunFolder folder(config, machine.world(), options.fresh, options.resume);

  const Sources sources = open_sources(config);
  const EmbeddingParts embedding(config);
  const Plan plan = make_plan(config, catalogues(sources, config), geometry(config, embedding));
  folder.describe(config, plan, sources);

  StartModel start = start_model(config, embedding);
  VideoTransformer& model = start.model;
  model.to(machine.device());
  model.set_compute(machine.compute_type());
  const auto checkpointing = parse_activation_checkpointing(config.model.activation_checkpointing);
  model.set_activation_checkpointing(checkpointing);

  Communicator& world = machine.world();
  const Placement placement = place(world.rank(), world.size(), config.mesh);
  const SlotGroups groups(world, placement.processes, plan.widths(), model.config().heads);
  check_parity(groups, model.config(), machine.device(), machine.compute_type(), checkpointing);
  ShardedParameters weights(select_trainable(model.trainable(), config.model.trainable), world,
                            ranks_that_share_updates(config.mesh, placement, world));
  Optimizer optimizer(weights.owned(), parse_optimizer_kind(config.optim.kind),
                      keeps_average(config));

  Trainer trainer({config, plan, sources, embedding.embedder, world, placement, groups, model,
                   start.base_fingerprint, weights, optimizer, machine.peak_flops(), folder.path(),
                   machine.stop_signal()});
  trainer.resume_if_possible();
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
  command->callback([options, &exit_code] { exit_code = train(*options); });
}

}  // namespace pendulum
