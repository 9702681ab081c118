// The Haar transform with its checks, on tensors.
#include "embed/haar_codec.h"

#include <ATen/ATen.h>

#include <bit>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr int kHaarVersion = 2;  // raise it with every change of a latent's values

bool is_power_of_two(int n) { return n > 0 && std::has_single_bit(static_cast<unsigned>(n)); }

}  // namespace

HaarCodec::HaarCodec(const CodecConfig& config)
    : layout_{config.spatial == 0 ? kHaarFactor : config.spatial,
              config.temporal == 0 ? kHaarFactor : config.temporal, config.drop} {
  const int spatial = layout_.spatial, temporal = layout_.temporal;
  if (!is_power_of_two(spatial) || spatial > 64)
    throw ConfigError(text("codec.spatial is ", spatial, "; expected a power of two up to 64"));
  if (!is_power_of_two(temporal) || temporal > 16)
    throw ConfigError(text("codec.temporal is ", temporal, "; expected a power of two up to 16"));
  const int levels = std::countr_zero(static_cast<unsigned>(spatial));
  if (config.drop < 0 || config.drop > levels) {
    throw ConfigError(text("codec.drop is ", config.drop, "; blocks of ", spatial, " pixels have ",
                           levels, " levels to drop"));
  }
}

at::Tensor HaarCodec::encode(const Frames& frames) const {
  const LatentShape shape = latent_shape({frames.count, frames.height, frames.width});
  check(frames.rgb.size() == frames.count * frames.frame_bytes(),
        "three bytes a pixel: ", frames.rgb.size());
  at::Tensor latent = at::empty({channels(), shape.frames, shape.height, shape.width}, at::kFloat);
  haar_encode(latent.data_ptr<float>(), frames.rgb.data(), shape.frames, frames.height,
              frames.width, layout_);
  return latent;
}

// The transform is linear and grey is its zero.
at::Tensor HaarCodec::encode_first(const Frames& first, int frames) const {
  check(first.count == 1, "one frame: ", first.count);
  const LatentShape shape = latent_shape({frames, first.height, first.width});
  at::Tensor latent = at::zeros({channels(), shape.frames, shape.height, shape.width}, at::kFloat);
  latent.narrow(1, 0, 1).copy_(encode(first));
  return latent;
}

Frames HaarCodec::decode(const at::Tensor& latent) const {
  check(latent.dim() == 4 && latent.size(0) == channels() && latent.numel() > 0,
        "a latent of (channels, frames, height, width): ", latent.sizes(), ", channels ",
        channels());
  const at::Tensor values = latent.detach().to(at::kCPU, at::kFloat).contiguous();
  const int latent_frames = static_cast<int>(values.size(1));
  Frames frames((latent_frames - 1) * layout_.temporal + 1,
                static_cast<int>(values.size(2)) * layout_.spatial,
                static_cast<int>(values.size(3)) * layout_.spatial);
  haar_decode(frames.rgb.data(), values.const_data_ptr<float>(), latent_frames, frames.height,
              frames.width, layout_);
  return frames;
}

std::vector<bool> HaarCodec::first_frame_channels() const {
  std::vector<bool> present(channels(), false);
  std::fill_n(present.begin(), 3 * layout_.space_bands(), true);
  return present;
}

std::string HaarCodec::key() const {
  return text("haar/s", layout_.spatial, "/t", layout_.temporal, "/d", layout_.drop, "/v",
              kHaarVersion);
}

nlohmann::json HaarCodec::describe() const {
  return {{"kind", "haar"},
          {"spatial", layout_.spatial},
          {"temporal", layout_.temporal},
          {"drop", layout_.drop},
          {"key", key()},
          {"channels", channels()}};
}

}  // namespace pendulum
