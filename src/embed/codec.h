// Frames to latents and back.
#pragma once
#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/shape.h"
#include "data/frames.h"
#include "embed/haar.h"

namespace pendulum {

// Latent frames x latent pixels.
struct LatentShape {
  int frames = 1, height = 0, width = 0;
  auto operator<=>(const LatentShape&) const = default;
};

// Kind "haar": the space-time Haar transform of haar.h. Thread-safe, without state.
class Codec {
 public:
  // ConfigError for another kind, factors that are no powers of two, or more levels dropped than
  // there are.
  explicit Codec(const CodecConfig& config);

  int channels() const { return layout_.channels(); }
  // ConfigError where frames are not k temporal + 1 or a side is not a multiple of `spatial`.
  LatentShape latent_shape(Shape pixels) const;

  // (C, F, h, w) fp32, scaled to a standard deviation near 0.5; pixels of [-1, 1] give a mean
  // channel of the same range.
  at::Tensor encode(const Frames& frames) const;
  // Without drop the frames that were encoded, to the bit; with drop n their mean over 2^n x 2^n
  // pixels. Values that no frame has are clamped.
  Frames decode(const at::Tensor& latent) const;

  // What each channel was multiplied with; decode divides by it.
  std::vector<float> gains() const { return haar_gains(layout_); }
  // False for the channels that are zero in the first latent frame whatever the clip: it holds one
  // image, so there is no change in time.
  std::vector<bool> first_frame_channels() const;

  // Changes whenever the same frames would give other latents: "haar/s4/t4/d0/v1".
  std::string key() const;
  // kind, spatial, temporal, drop (a CodecConfig again), key, channels.
  nlohmann::json describe() const;

 private:
  HaarLayout layout_;
};

}  // namespace pendulum
