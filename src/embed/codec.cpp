// The Haar transform with its checks, on tensors.
#include "embed/codec.h"

#include <ATen/ATen.h>

#include <bit>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr int kVersion = 2;  // raise it with every change of a latent's values

bool is_power_of_two(int n) { return n > 0 && std::has_single_bit(static_cast<unsigned>(n)); }

}  // namespace

Codec::Codec(const CodecConfig& config) : layout_{config.spatial, config.temporal, config.drop} {
  if (config.kind != "haar") {
    throw ConfigError(text("codec.kind is '", config.kind, "'; expected haar"));
  }
  if (!is_power_of_two(config.spatial) || config.spatial > 64) {
    throw ConfigError(
        text("codec.spatial is ", config.spatial, "; expected a power of two up to 64"));
  }
  if (!is_power_of_two(config.temporal) || config.temporal > 16) {
    throw ConfigError(
        text("codec.temporal is ", config.temporal, "; expected a power of two up to 16"));
  }
  if (config.drop < 0 || config.drop > std::countr_zero(static_cast<unsigned>(config.spatial))) {
    throw ConfigError(text("codec.drop is ", config.drop, "; blocks of ", config.spatial,
                           " pixels have ", std::countr_zero(static_cast<unsigned>(config.spatial)),
                           " levels to drop"));
  }
}

LatentShape Codec::latent_shape(Shape pixels) const {
  const int spatial = layout_.spatial, temporal = layout_.temporal;
  if (pixels.frames < 1 || (pixels.frames - 1) % temporal != 0) {
    throw ConfigError(text(pixels.name(), ": the codec takes a multiple of ", temporal,
                           " frames and one more, not ", pixels.frames));
  }
  if (pixels.height < 1 || pixels.width < 1 || pixels.height % spatial != 0 ||
      pixels.width % spatial != 0) {
    throw ConfigError(
        text(pixels.name(), ": the codec takes sides that are multiples of ", spatial));
  }
  return {(pixels.frames - 1) / temporal + 1, pixels.height / spatial, pixels.width / spatial};
}

at::Tensor Codec::encode(const Frames& frames) const {
  const LatentShape shape = latent_shape({frames.count, frames.height, frames.width});
  check(frames.rgb.size() == frames.count * frames.frame_bytes(),
        "three bytes a pixel: ", frames.rgb.size());
  at::Tensor latent = at::empty({channels(), shape.frames, shape.height, shape.width}, at::kFloat);
  haar_encode(latent.data_ptr<float>(), frames.rgb.data(), shape.frames, frames.height,
              frames.width, layout_);
  return latent;
}

Frames Codec::decode(const at::Tensor& latent) const {
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

std::vector<bool> Codec::first_frame_channels() const {
  std::vector<bool> present(channels(), false);
  std::fill_n(present.begin(), 3 * layout_.space_bands(), true);
  return present;
}

std::string Codec::key() const {
  return text("haar/s", layout_.spatial, "/t", layout_.temporal, "/d", layout_.drop, "/v",
              kVersion);
}

nlohmann::json Codec::describe() const {
  return {{"kind", "haar"},
          {"spatial", layout_.spatial},
          {"temporal", layout_.temporal},
          {"drop", layout_.drop},
          {"key", key()},
          {"channels", channels()}};
}

}  // namespace pendulum
