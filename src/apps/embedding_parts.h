// The embedding stage's parts as a configuration names them, and the geometry that follows from
// them.
#pragma once
#include <memory>

#include "config/config.h"
#include "embed/clip_image.h"
#include "embed/codec.h"
#include "embed/embedder.h"
#include "embed/embedding_cache.h"
#include "embed/text_encoder.h"
#include "model/config.h"
#include "model/geometry.h"
#include "pendulum/cost.h"

namespace pendulum {

struct EmbeddingParts {
  explicit EmbeddingParts(const Config& config);

  std::unique_ptr<Codec> codec;
  std::unique_ptr<TextEncoder> text_encoder;
  std::unique_ptr<ClipImageEncoder> image_encoder;  // null where image.kind is none
  WanConfig architecture;                           // of the model that takes what they give
  std::unique_ptr<EmbeddingCache> cache;            // null where embed.cache is off
  Embedder embedder;
};

// Width of the states that the configured text encoder gives, without keeping the encoder.
int text_width(const TextConfig& config);

// What the plan's cost model needs to know of model, codec and text encoder.
Geometry geometry(const Config& config, const EmbeddingParts& parts);
Geometry geometry(const Config& config, const Codec& codec, const WanConfig& wan);

}  // namespace pendulum
