// The codec "wan": the variational autoencoder of Wan 2.1 (16 channels, 8x8x4) or 2.2 (48,
// 16x16x4).
#pragma once
#include <string>

#include "embed/codec.h"
#include "embed/wan_vae.h"

namespace pendulum {

// The one place that knows how latents are normalised: latent() after drawing, decode() before
// decoding.
class WanCodec final : public Codec {
 public:
  // ConfigError for a missing file, a tile that the codec's factor does not divide or a device that
  // is not there; DataError as WanVaeWeights::open.
  explicit WanCodec(const CodecConfig& config);

  int channels() const override { return vae_config_.z_dim; }
  int spatial() const override { return vae_config_.spatial(); }
  int temporal() const override { return vae_config_.temporal(); }

  // (2 C, F, h, w): the posterior's mean and log-variance.
  at::Tensor encode(const Frames& frames) const override;
  // ((mean + std noise) - latents_mean) / latents_std, the noise left out with codec.sample false.
  at::Tensor latent(const at::Tensor& posterior, uint64_t key) const override;
  at::Tensor mean(const at::Tensor& posterior) const override;
  at::Tensor encode_first(const Frames& first, int frames) const override;
  Frames decode(const at::Tensor& latent) const override;

  std::string key() const override;
  // Also latents_mean and latents_std.
  nlohmann::json describe() const override;
  // A diffusers folder, numbers as they are stored at codec.weights, which is read again.
  void write_weights(const std::string& folder) const override;

 private:
  WanCodec(const CodecConfig& config, const WanVaeWeights& weights);
  at::Tensor normalised(const at::Tensor& z) const { return (z - mean_).div_(deviation_); }

  CodecConfig config_;
  WanVaeConfig vae_config_;
  at::Tensor mean_, deviation_;  // (C, 1, 1, 1)
  WanVae vae_;
};

}  // namespace pendulum
