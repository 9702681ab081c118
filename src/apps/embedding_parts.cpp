// Builds the embedding stage's parts.
#include "apps/embedding_parts.h"

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
      cache(open_cache(config)),
      embedder(*codec, *text_encoder, cache.get()) {}

int text_width(const TextConfig& config) { return open_text_encoder(config)->dim(); }

Geometry geometry(const Config& config, const EmbeddingParts& parts) {
  return geometry(config, *parts.codec,
                  wan_config(config.model, parts.codec->channels(), parts.text_encoder->dim()));
}

Geometry geometry(const Config& config, const Codec& codec, const WanConfig& wan) {
  return geometry(config, {codec.channels(), codec.spatial(), codec.temporal()}, wan);
}

Geometry geometry(const Config& config, const LatentSizes& latents, const WanConfig& wan) {
  return {.layers = wan.layers,
          .width = wan.heads * wan.head_dim,
          .ffn_dim = wan.ffn_dim,
          .freq_dim = wan.freq_dim,
          .text_length = config.text.length,
          .text_dim = wan.text_dim,
          .spatial = latents.spatial,
          .temporal = latents.temporal,
          .patch = wan.patch,
          .channels = wan.in_channels,
          .cross_attn_norm = wan.cross_attn_norm,
          .heads = wan.heads,
          .activation_checkpointing = config.model.activation_checkpointing,
          .offloads = config.model.offload != "none"};
}

}  // namespace pendulum
