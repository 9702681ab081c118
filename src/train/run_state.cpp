// Run state to JSON and back.
#include "train/run_state.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pendulum {

std::string embedding_key(const Embedder& embedder) {
  const std::string first_frame = embedder.first_frame().key();
  return embedder.codec().key() + " and " + embedder.text_encoder().key() +
         (first_frame.empty() ? "" : " and " + first_frame);
}

nlohmann::json to_json(const RunState& state, const Config& config, const Plan& plan) {
  return {{"segment", state.position.segment},
          {"segment_step", state.position.step},
          {"finished_steps", state.finished_steps},
          {"running_digest", fmt::format("{:016x}", state.running_digest)},
          {"consumption_head", state.consumption.head},
          {"consumption_run", state.consumption.run},
          {"consumption_seq", state.consumption.seq},
          {"consumption_public_key", state.public_key},
          {"consumption_signature", state.signature},
          {"embedding", state.embedding},
          {"threads", state.threads},
          {"world", state.world},
          {"sums", state.sums},
          {"config", print_config(config)},
          {"plan_hash", plan.hash()},
          {"plan", plan.manifest()}};
}

RunState compatible_state(const nlohmann::json& saved, const Config& config, const Plan& plan,
                          const std::string& embedding) {
  const Config before =
      parse_config(saved.at("config").get<std::string>(), "the checkpoint's configuration");
  const std::vector<std::string> changed = incompatible_keys(before, config);
  if (!changed.empty()) {
    std::string list;
    for (const std::string& key : changed) list += (list.empty() ? "" : ", ") + key;
    throw ConfigError(
        text("this run cannot be resumed with another value of: ", list,
             ". Put the old values back, give the run another name, or start anew with --fresh"));
  }
  const auto finished = saved.at("finished_steps").get<int64_t>();
  const std::string difference = breaks(saved.at("plan"), plan.manifest(), finished);
  if (!difference.empty()) {
    throw ConfigError(text("the data plan does not go on from the one this run has: ", difference,
                           ". Put the data back, or start anew with --fresh or another run.name"));
  }
  // The same configuration can mean other numbers: another version of the codec, other weights.
  RunState state;
  state.embedding = saved.value("embedding", "unknown");
  if (state.embedding != embedding) {
    throw ConfigError(text("the checkpoint was trained on what codec and text encoder ",
                           state.embedding, " make of a sample, here they are ", embedding,
                           ". Start anew with --fresh or another run.name"));
  }
  state.position = position_after(plan, finished);
  state.finished_steps = finished;
  state.running_digest = std::stoull(saved.at("running_digest").get<std::string>(), nullptr, 16);
  state.consumption.head = saved.at("consumption_head").get<std::string>();
  state.threads = saved.at("threads").get<int>();
  state.world = saved.at("world").get<int>();
  state.sums = saved.value("sums", "over passes, then processes");
  return state;
}

}  // namespace pendulum
