// Wan's VAE put together from its layers: which there are, in which order, and what their weights
// are called.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "embed/wan_vae_config.h"
#include "embed/wan_vae_layers.h"

namespace pendulum {

// A weight under both of its published names.
struct WanVaeParameter {
  std::string name;      // in diffusers' AutoencoderKLWan
  std::string original;  // in Wan-AI's files, and in ComfyUI's
  std::vector<int64_t> shape;
};

// Frames to features with pixels as large as a latent's, and on to the posterior: everything that
// reaches over the whole frame lies in `end`.
struct WanVaeEncoder {
  FrameLayers start, end;
  at::Tensor weight, bias;  // of the product behind them
  int places = 0;           // of a stream's memory
};

// The reverse: everything that reaches over the whole frame lies in `start`.
struct WanVaeDecoder {
  at::Tensor weight, bias;  // of the product in front
  FrameLayers start, end;
  int places = 0;
};

// Asks for each parameter of a half once, in a fixed order.
using WanVaeWeightSource = std::function<at::Tensor(const WanVaeParameter&)>;
WanVaeEncoder build_wan_encoder(const WanVaeConfig& config, const WanVaeWeightSource& weight);
WanVaeDecoder build_wan_decoder(const WanVaeConfig& config, const WanVaeWeightSource& weight);

// All of them, the encoder's first.
std::vector<WanVaeParameter> wan_vae_parameters(const WanVaeConfig& config);

}  // namespace pendulum
