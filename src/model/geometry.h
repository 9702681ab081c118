// What the plan's cost model needs to know of a model: its sizes, and which part of it trains.
#pragma once
#include "config/config.h"
#include "model/config.h"
#include "pendulum/cost.h"

namespace pendulum {

// Of a codec, which need not be at hand.
struct LatentSizes {
  int channels = 0, spatial = 1, temporal = 1;
};

// As a training run of this configuration would have it, adapters and frozen weights included.
// ConfigError as of adapter_specs, and where model.trainable matches nothing.
Geometry geometry(const Config& config, const LatentSizes& latents, const WanConfig& wan);

}  // namespace pendulum
