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
  if (config.model.import.empty()) return {{wan, config.run.seed}, ""};
  StartModel start{{wan, std::nullopt}, ""};
  PretrainedTransformer::open(config.model.import).load_into(start.model);
  info("weights from {}", config.model.import);
  if (config.lora.rank == 0) return start;
  start.base_fingerprint = fingerprint(start.model.parameters());
  start.model.add_adapters(config.lora, config.run.seed);
  return start;
}

}  // namespace pendulum
