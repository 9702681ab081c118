// The model with which a run starts.
#pragma once
#include <string>

#include "apps/embedding_parts.h"
#include "apps/machine.h"
#include "config/config.h"
#include "model/video_transformer.h"

namespace pendulum {

struct StartModel {
  VideoTransformer model;
  std::string base_fingerprint;  // of the imported weights, with adapters; else empty
};

// fp32 on the CPU, without values yet, which a process may not need all of. Only where `lora` asks
// for adapters are they there: those of model.import, stored and swapped as `model` says, and fresh
// adapters beside them. Errors as of wan_config, PretrainedTransformer, add_adapters and
// set_swap_blocks.
StartModel start_model(const Config& config, const EmbeddingParts& embedding);

// The same model with fresh values everywhere, of nothing that is imported: what measurements run.
VideoTransformer fresh_model(const Config& config, const WanConfig& architecture);

// On the machine's device, in its type; what blocks keep for the backward pass, and where, as the
// configuration says.
void set_up_passes(VideoTransformer& model, const ModelConfig& config, const Machine& machine);

// Where there are none yet, fresh values or those of model.import for the parameters that this
// process holds.
void set_weights(StartModel& start, const NamedTensors& held, const Config& config);

}  // namespace pendulum
