// A random transformer, tiny but complete with codec and text encoder, for tests around models.
#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <string>

#include "export/trained_model.h"
#include "model/parameters.h"

namespace pendulum {

inline constexpr Shape kTinyShape{5, 16, 24};

// Two layers of width 24 over Haar latents of 12 channels, or another codec's; every parameter a
// keyed random number, so that no path through the network is switched off by a zero.
inline TrainedModel tiny_model(uint64_t seed, const std::string& predict = "velocity",
                               const CodecConfig& codec = {
                                   .spatial = 4, .temporal = 4, .drop = 2}) {
  TrainedModel model;
  model.codec_config = codec;
  model.codec = make_codec(model.codec_config);
  model.text_config = {.kind = "minilm", .weights = "auto", .length = 7};
  model.text_config.weights = find_text_weights(model.text_config, {PENDULUM_SOURCE_DIR "/.venv"});
  model.text_encoder = make_text_encoder(model.text_config, model.text_config.weights);
  WanConfig& config = model.architecture;
  config.layers = 2;
  config.heads = 2;
  config.head_dim = 12;
  config.ffn_dim = 40;
  config.freq_dim = 16;
  config.in_channels = config.out_channels = model.codec->channels();
  config.text_dim = model.text_encoder->dim();
  config.patch = {1, 2, 2};
  model.transformer = std::make_unique<VideoTransformer>(config, seed);
  randomise(model.transformer->parameters(), seed);
  model.generate = {.solver = "ab2",
                    .steps = 3,
                    .guidance = 2.5,
                    .shift = {},
                    .fps = 8,
                    .prompts = {"a red circle"}};
  model.objective.predict = predict;
  model.shape = kTinyShape;
  model.provenance = {.run = "tiny",
                      .stage = "low-res",
                      .step = 12,
                      .weights = "ema",
                      .plan_hash = "ab",
                      .consumption_head = "cd"};
  return model;
}

}  // namespace pendulum
