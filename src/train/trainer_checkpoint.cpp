// What a trainer hands to a checkpoint, and takes back.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "model/diffusers_config.h"
#include "train/run_state.h"
#include "train/trainer.h"

namespace pendulum {

// What this process holds of the weights that a checkpoint keeps.
NamedTensors Trainer::held_weights() const {
  std::set<std::string> kept;
  for (const auto& [name, tensor] : parts_.model.trainable()) kept.insert(name);
  NamedTensors held = parts_.weights.held();
  std::erase_if(held, [&](const auto& weight) { return !kept.contains(weight.first); });
  return held;
}

void Trainer::save() {
  if (saved_steps_ == finished_steps_) return;
  saved_steps_ = finished_steps_;
  parts_.world.set_place(text("checkpoint after step ", finished_steps_));
  const NamedTensors model = parts_.weights.collect(held_weights());
  const NamedTensors optimizer = parts_.weights.collect(parts_.optimizer.state());
  const NamedTensors average = parts_.weights.collect(parts_.optimizer.average());
  if (parts_.world.rank() != 0) return;
  consumption_->sync();
  RunState state{
      .position = position_,
      .finished_steps = finished_steps_,
      .running_digest = running_digest_,
      .consumption = {parts_.config.run.name, consumption_->next_seq() - 1, consumption_->head()},
      .public_key = {},
      .signature = {},
      .embedding = embedding_key(parts_.embedder),
      .threads = at::get_num_threads(),
      .world = parts_.world.size(),
      .sums = parts_.weights.order_of_sums()};
  if (key_) {
    state.public_key = key_->public_key();
    state.signature = key_->sign(state.consumption);
  }
  CheckpointContents contents;
  contents.tensors["model"] = model;
  contents.tensors["optimizer"] = optimizer;
  if (!average.empty()) contents.tensors["ema"] = average;
  contents.state = to_json(state, parts_.config, parts_.plan);
  if (parts_.started.contains("origins")) contents.state["origins"] = parts_.started["origins"];
  contents.state["architecture"] = diffusers_config(parts_.model.config());
  if (!parts_.base_fingerprint.empty()) contents.state["base"] = parts_.base_fingerprint;
  checkpoints_->save_async(finished_steps_, std::move(contents));
}

void Trainer::resume_from(const std::string& folder) {
  const CheckpointFiles saved = open_checkpoint(folder);
  const RunState state =
      compatible_state(saved.state, parts_.config, parts_.plan, embedding_key(parts_.embedder));
  if (saved.state.value("base", "") != parts_.base_fingerprint) {
    throw ConfigError(text("the weights in ", parts_.config.model.import,
                           " are not those beside which this run's adapters were trained. Put "
                           "them back, or start anew with --fresh or another run.name"));
  }
  saved.read("model", held_weights());
  saved.read("optimizer", parts_.optimizer.state());
  if (!parts_.optimizer.average().empty()) saved.read("ema", parts_.optimizer.average());
  position_ = state.position;
  finished_steps_ = saved_steps_ = state.finished_steps;
  consumption_head_ = state.consumption.head;
  running_digest_ = state.running_digest;
  if (state.threads != at::get_num_threads() || state.world != parts_.world.size()) {
    info(
        "resuming on {} processes x {} threads after {} x {}: the same samples in the same order, "
        "but not the same bits",
        parts_.world.size(), at::get_num_threads(), state.world, state.threads);
  } else if (state.sums != parts_.weights.order_of_sums()) {
    info("gradients were added {}, now {}: the same samples, but not the same bits", state.sums,
         parts_.weights.order_of_sums());
  }
  info("resumed from step {}", finished_steps_);
}

}  // namespace pendulum
