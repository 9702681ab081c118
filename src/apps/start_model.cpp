// Makes it: fresh, imported, or imported with adapters.
#include "apps/start_model.h"

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

}  // namespace

StartModel start_model(const Config& config, const EmbeddingParts& embedding) {
  const WanConfig& wan = embedding.architecture;
  StartModel start{stores_frozen(config.model)
                       ? VideoTransformer(wan, parse_weight_storage(config.model.frozen_precision))
                       : VideoTransformer(wan, std::nullopt),
                   ""};
  if (config.lora.rank == 0) return start;
  Fingerprint read;
  PretrainedTransformer::open(transformer_place(config.model)).load_into(start.model, &read);
  info("weights from {}", transformer_place(config.model));
  start.base_fingerprint = read.digits();
  start.model.add_adapters(config.lora, config.run.seed);
  if (config.model.swap_blocks > 0) start.model.set_swap_blocks(config.model.swap_blocks);
  tell_frozen(start.model);
  return start;
}

void set_weights(StartModel& start, const NamedTensors& held, const Config& config) {
  if (config.lora.rank > 0) return;
  if (config.model.import.empty()) return start.model.start(held, config.run.seed);
  PretrainedTransformer::open(transformer_place(config.model)).load_into(start.model, held);
  info("weights from {}", transformer_place(config.model));
}

}  // namespace pendulum
