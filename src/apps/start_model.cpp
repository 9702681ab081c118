// Makes it: fresh, imported, or imported with adapters.
#include "apps/start_model.h"

#include <ATen/ATen.h>

#include "core/log.h"
#include "model/experts.h"
#include "model/parameters.h"
#include "model/pretrained.h"

namespace pendulum {
namespace {

// Whether frozen matrices are stored otherwise than as parameters; beside adapters alone, as the
// configuration's checks see to.
bool stores_frozen(const ModelConfig& model) {
  return model.frozen_precision != ModelConfig{}.frozen_precision || model.swap_blocks > 0;
}

std::string megabytes(double bytes) { return fmt::format("{:.1f} MB", bytes * 1e-6); }

void tell_frozen(const VideoTransformer& model) {
  int64_t numbers = 0;
  for (const auto& [name, tensor] : model.base()) numbers += tensor.numel();
  const std::string plain = megabytes(4.0 * static_cast<double>(numbers));
  const StoredBlocks* stored = model.stored();
  if (stored == nullptr) return info("{} numbers are frozen, as fp32: {}", numbers, plain);
  const int blocks = model.config().layers;
  std::string where;
  if (stored->swapped() > 0)
    where =
        fmt::format("; those of {} of {} blocks wait in host memory", stored->swapped(), blocks);
  info("{} numbers are frozen: {} as fp32, {}, and {} in matrices of blocks as {}, {}{}",
       numbers + stored->numbers(), numbers, plain, stored->numbers(), in_words(stored->storage()),
       megabytes(static_cast<double>(blocks) * static_cast<double>(stored->block_bytes())), where);
}

// Without values yet.
VideoTransformer unset_model(const ModelConfig& model, const WanConfig& wan) {
  if (!stores_frozen(model)) return {wan, std::nullopt};
  return {wan, parse_weight_storage(model.frozen_precision)};
}

// Beside weights that have their values.
void add_adapters(VideoTransformer& model, const Config& config) {
  model.add_adapters(config.lora, config.run.seed);
  if (config.model.swap_blocks > 0) model.set_swap_blocks(config.model.swap_blocks);
  tell_frozen(model);
}

}  // namespace

StartModel start_model(const Config& config, const EmbeddingParts& embedding) {
  StartModel start{unset_model(config.model, embedding.architecture), ""};
  if (config.lora.rank == 0) return start;
  Fingerprint read;
  PretrainedTransformer::open(transformer_place(config.model)).load_into(start.model, &read);
  info("weights from {}", transformer_place(config.model));
  start.base_fingerprint = read.digits();
  add_adapters(start.model, config);
  return start;
}

VideoTransformer fresh_model(const Config& config, const WanConfig& architecture) {
  VideoTransformer model = unset_model(config.model, architecture);
  model.start(model.parameters(), config.run.seed);
  for (const ParameterSpec& spec : parameter_specs(architecture)) {
    if (model.stored() == nullptr || !model.stored()->find(spec.name)) continue;
    at::Tensor values = at::empty(spec.shape);
    start_parameter(values, spec, config.run.seed);
    model.store(spec.name, values);
  }
  if (config.lora.rank > 0) add_adapters(model, config);
  return model;
}

void set_up_passes(VideoTransformer& model, const ModelConfig& config, const Machine& machine) {
  model.to(machine.device());
  model.set_compute(machine.compute_type());
  model.set_activation_checkpointing(
      parse_activation_checkpointing(config.activation_checkpointing));
  model.set_offload(config.offload != "none");
}

void set_weights(StartModel& start, const NamedTensors& held, const Config& config) {
  if (config.lora.rank > 0) return;
  if (config.model.import.empty()) return start.model.start(held, config.run.seed);
  PretrainedTransformer::open(transformer_place(config.model)).load_into(start.model, held);
  info("weights from {}", transformer_place(config.model));
}

}  // namespace pendulum
