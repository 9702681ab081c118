// Frames to latents and back: what every codec does, and the one place where a kind is chosen.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "config/config.h"
#include "core/shape.h"
#include "data/frames.h"

namespace pendulum {

// Latent frames x latent pixels.
struct LatentShape {
  int frames = 1, height = 0, width = 0;
  auto operator<=>(const LatentShape&) const = default;
};

// Three forms, in the order in which training meets them:
//   frames     RGB, temporal k + 1 of them
//   posterior  (P, F, h, w): all that the frames determine, kept in the cache. Where a codec is a
//              variational autoencoder, mean and log-variance, never a draw
//   latent     (C, F, h, w): what the network is trained on and generates, drawn and normalised
// Thread-safe.
class Codec {
 public:
  virtual ~Codec() = default;

  virtual int channels() const = 0;  // C
  virtual int spatial() const = 0;   // pixels per latent pixel
  virtual int temporal() const = 0;  // frames per latent frame after the first, which is one frame
  // ConfigError where frames are not k temporal + 1 or a side is not a multiple of `spatial`.
  LatentShape latent_shape(Shape pixels) const;

  // fp32, on the CPU.
  virtual at::Tensor encode(const Frames& frames) const = 0;
  // The latent that belongs to `key`: noise is a function of the key and of the element alone.
  virtual at::Tensor latent(const at::Tensor& posterior, uint64_t key) const = 0;
  // The latent without noise: the mean of those that latent() gives.
  virtual at::Tensor mean(const at::Tensor& posterior) const = 0;
  // The latent, without noise, of a clip of `frames` frames that begins with this one and is grey
  // behind it (level 127.5): image-to-video models are given it. first.count is 1.
  virtual at::Tensor encode_first(const Frames& first, int frames) const = 0;
  virtual Frames decode(const at::Tensor& latent) const = 0;

  // Changes whenever the same frames would give another posterior, or a posterior another
  // distribution of latents: "haar/s4/t4/d0/v1".
  virtual std::string key() const = 0;
  // kind, spatial, temporal, channels, key (that of the weights alone, whatever they are computed
  // in), and what else its kind has.
  virtual nlohmann::json describe() const = 0;
  // Writes the weights it computes with into a folder of their own, which CodecConfig::weights may
  // then name; does nothing for a codec without weights.
  virtual void write_weights(const std::string& folder) const = 0;
};

// The codec that a configuration names. ConfigError where its settings contradict each other or its
// weights, DataError for weights that cannot be read.
std::unique_ptr<Codec> make_codec(const CodecConfig& config);

}  // namespace pendulum
