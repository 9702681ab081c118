// The model with which a run starts.
#pragma once
#include <string>

#include "apps/embedding_parts.h"
#include "config/config.h"
#include "model/video_transformer.h"

namespace pendulum {

// Fresh weights, or those of model.import, beside which adapters stand where `lora` asks for them.
struct StartModel {
  VideoTransformer model;
  std::string base_fingerprint;  // of the imported weights, with adapters; else empty
};

// fp32 on the CPU. Errors as of wan_config, PretrainedTransformer and add_adapters.
StartModel start_model(const Config& config, const EmbeddingParts& embedding);

}  // namespace pendulum
