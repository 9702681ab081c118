// A Wan VAE's weights on disk: which variant they are, reading and writing them.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "embed/wan_vae_config.h"
#include "embed/wan_vae_parts.h"
#include "safetensors/sharded.h"

namespace pendulum {

class WanVaeWeights {
 public:
  // path: diffusers' folder of the VAE or of a whole pipeline, or a safetensors file (or index) in
  // diffusers' or the original names. DataError names the path and what is wrong, as the file calls
  // it: no such file, names of another model, a tensor that is missing, surplus, of another shape
  // or type. Tensors are not read yet.
  static WanVaeWeights open(const std::string& path);

  // From config.json where there is one, else from the tensors' shapes, with the published
  // statistics of latents.
  const WanVaeConfig& config() const { return config_; }
  const std::vector<WanVaeParameter>& parameters() const { return parameters_; }
  // As stored.
  at::Tensor load(const WanVaeParameter& parameter) const;

  // config.json and diffusion_pytorch_model.safetensors, for AutoencoderKLWan.from_pretrained; of
  // type `dtype`, or as stored.
  void write_diffusers(const std::string& folder, std::optional<at::ScalarType> dtype) const;

 private:
  explicit WanVaeWeights(ShardedSafetensors tensors) : tensors_(std::move(tensors)) {}
  const std::string& name_of(const WanVaeParameter& parameter) const {
    return is_original_ ? parameter.original : parameter.name;
  }
  void recognise_layout();
  WanVaeConfig config_from_shapes() const;
  void check_tensors() const;

  ShardedSafetensors tensors_;
  bool is_original_ = false;
  WanVaeConfig config_;
  std::vector<WanVaeParameter> parameters_;
};

}  // namespace pendulum
