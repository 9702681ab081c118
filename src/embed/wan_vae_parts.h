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

struct WanVaeParts {
  // Frames to features with pixels as large as a latent's, and on to the posterior. Between the two
  // halves everything that reaches over the whole frame begins.
  FrameLayers encoder, encoder_end;
  FrameLayers decoder_start, decoder;
  at::Tensor posterior_weight, posterior_bias;  // a product after the encoder
  at::Tensor latent_weight, latent_bias;        // and one before the decoder
  int places = 0;                               // of a stream's memory
};

// Asks `weight` for each parameter once, in a fixed order.
WanVaeParts build_wan_vae(const WanVaeConfig& config,
                          const std::function<at::Tensor(const WanVaeParameter&)>& weight);

// All of them.
std::vector<WanVaeParameter> wan_vae_parameters(const WanVaeConfig& config);

}  // namespace pendulum
