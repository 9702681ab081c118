// Builds the embedding stage's parts.
#include "apps/embedding_parts.h"

#include "model/inputs.h"

namespace pendulum {
namespace {

std::unique_ptr<EmbeddingCache> open_cache(const Config& config) {
  if (config.embed.cache == "off") return nullptr;
  const std::string folder =
      config.embed.cache == "auto" ? config.run.dir + "/cache" : config.embed.cache;
  return std::make_unique<EmbeddingCache>(folder, config.embed);
}

std::unique_ptr<TextEncoder> open_text_encoder(const TextConfig& config) {
  return make_text_encoder(config, find_text_weights(config, default_environments()));
}

}  // namespace

EmbeddingParts::EmbeddingParts(const Config& config)
    : codec(make_codec(config.codec)),
      text_encoder(open_text_encoder(config.text)),
      image_encoder(make_image_encoder(config.image)),
      architecture(
          wan_config(config.model, model_inputs(*codec, *text_encoder, image_encoder.get()))),
      cache(open_cache(config)),
      embedder(*codec, *text_encoder, cache.get(),
               {first_frame_of(config.model, architecture), *codec, image_encoder.get()}) {}

int text_width(const TextConfig& config) { return open_text_encoder(config)->dim(); }

Geometry geometry(const Config& config, const EmbeddingParts& parts) {
  Geometry sizes = geometry(config, *parts.codec, parts.architecture);
  if (parts.image_encoder) sizes.image_length = parts.image_encoder->tokens();
  return sizes;
}

Geometry geometry(const Config& config, const Codec& codec, const WanConfig& wan) {
  return geometry(config, LatentSizes{codec.channels(), codec.spatial(), codec.temporal()}, wan);
}

}  // namespace pendulum
