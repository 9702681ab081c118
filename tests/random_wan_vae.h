// Small VAEs of both of Wan's variants with random weights, on disk.
#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/hash.h"
#include "embed/wan_vae_parts.h"
#include "ops/random_tensor.h"
#include "safetensors/safetensors.h"

namespace pendulum {

// Wan 2.1's levels and times, few channels; z_dim 16, so that a file alone says everything.
inline WanVaeConfig small_wan_vae(bool is_residual) {
  WanVaeConfig config;
  config.base_dim = 8;
  config.decoder_base_dim = is_residual ? 12 : 8;
  config.z_dim = 16;
  config.is_residual = is_residual;
  config.patch = is_residual ? 2 : 1;
  set_published_statistics(config);
  return config;
}

// Every weight a keyed random number, so that no path is switched off; scaled so that numbers keep
// their size from layer to layer.
inline NamedTensors random_wan_vae(const WanVaeConfig& config, bool original_names = false) {
  NamedTensors tensors;
  for (const WanVaeParameter& parameter : wan_vae_parameters(config)) {
    at::Tensor values = random_tensor(parameter.shape, hash_name(parameter.name));
    const int64_t inputs = values.numel() / values.size(0);
    if (parameter.name.ends_with("gamma")) {
      values = values * 0.3 + 1;
    } else {
      values = values * (parameter.name.ends_with("bias") ? 0.1 : 1 / std::sqrt(double(inputs)));
    }
    tensors.emplace_back(original_names ? parameter.original : parameter.name, values);
  }
  return tensors;
}

// A diffusers folder.
inline void write_random_wan_vae(const std::string& folder, const WanVaeConfig& config) {
  std::filesystem::create_directories(folder);
  write_safetensors(folder + "/diffusion_pytorch_model.safetensors", random_wan_vae(config));
  std::ofstream(folder + "/config.json") << wan_vae_config_json(config).dump(2);
}

}  // namespace pendulum
