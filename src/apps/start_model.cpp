// Makes it: fresh, imported, or imported with adapters.
#include "apps/start_model.h"

#include "core/log.h"
#include "model/config.h"
#include "model/parameters.h"
#include "model/pretrained.h"

namespace pendulum {

StartModel start_model(const Config& config, const EmbeddingParts& embedding) {
  const WanConfig wan =
      wan_config(config.model, embedding.codec->channels(), embedding.text_encoder->dim());
  StartModel start{{wan, std::nullopt}, ""};
  if (config.lora.rank == 0) return start;
  PretrainedTransformer::open(config.model.import).load_into(start.model);
  info("weights from {}", config.model.import);
  start.base_fingerprint = fingerprint(start.model.parameters());
  start.model.add_adapters(config.lora, config.run.seed);
  return start;
}

void set_weights(StartModel& start, const NamedTensors& held, const Config& config) {
  if (config.lora.rank > 0) return;
  if (config.model.import.empty()) return start.model.start(held, config.run.seed);
  PretrainedTransformer::open(config.model.import).load_into(start.model, held);
  info("weights from {}", config.model.import);
}

}  // namespace pendulum
