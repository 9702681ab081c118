// What stands around a model, asked of the codec and the encoders themselves.
#pragma once
#include "embed/clip_image.h"
#include "embed/codec.h"
#include "embed/text_encoder.h"
#include "model/config.h"

namespace pendulum {

// image_encoder: null where the model is given no image states.
inline ModelInputs model_inputs(const Codec& codec, const TextEncoder& text_encoder,
                                const ClipImageEncoder* image_encoder) {
  return {.latent_channels = codec.channels(),
          .text_dim = text_encoder.dim(),
          .temporal = codec.temporal(),
          .image_dim = image_encoder ? image_encoder->dim() : 0};
}

}  // namespace pendulum
