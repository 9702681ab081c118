// What a checkpoint holds of a run, besides tensors: where it stands and what must not have
// changed.
#pragma once
#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "config/config.h"
#include "embed/embedder.h"
#include "pendulum/plan.h"
#include "pendulum/walker.h"
#include "rights/signature.h"

namespace pendulum {

struct RunState {
  Position position;           // the next optimiser step
  int64_t finished_steps = 0;  // of the run
  uint64_t running_digest = 0;
  SignedHead consumption;  // the consumption log's last line
  std::string public_key;  // and who vouches for it; empty: the log is not signed
  std::string signature;
  std::string embedding;  // keys of codec and text encoder: what they make of a sample
  int threads = 0;        // per process
  int world = 1;          // processes
  std::string sums;       // ShardedParameters::order_of_sums()
};

// Keys of codec and encoders.
std::string embedding_key(const Embedder& embedder);

// As the checkpoint's state: the run state, the resolved configuration and the plan's manifest.
nlohmann::json to_json(const RunState& state, const Config& config, const Plan& plan);

// Reads it back and compares: ConfigError names the keys that may not change on resume, another
// codec or text encoder, or where this plan is no continuation of the saved one.
RunState compatible_state(const nlohmann::json& saved, const Config& config, const Plan& plan,
                          const std::string& embedding);

}  // namespace pendulum
