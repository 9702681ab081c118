// Chooses the codec; checks that all kinds share.
#include "embed/codec.h"

#include "core/error.h"
#include "embed/haar_codec.h"
#include "embed/wan_codec.h"

namespace pendulum {

std::unique_ptr<Codec> make_codec(const CodecConfig& config) {
  if (config.kind == "haar") return std::make_unique<HaarCodec>(config);
  if (config.kind == "wan") return std::make_unique<WanCodec>(config);
  throw ConfigError(text("codec.kind is '", config.kind, "'; expected haar or wan"));
}

LatentShape Codec::latent_shape(Shape pixels) const {
  if (pixels.frames < 1 || (pixels.frames - 1) % temporal() != 0) {
    throw ConfigError(text(pixels.name(), ": the codec takes a multiple of ", temporal(),
                           " frames and one more, not ", pixels.frames));
  }
  if (pixels.height < 1 || pixels.width < 1 || pixels.height % spatial() != 0 ||
      pixels.width % spatial() != 0) {
    throw ConfigError(
        text(pixels.name(), ": the codec takes sides that are multiples of ", spatial()));
  }
  return {(pixels.frames - 1) / temporal() + 1, pixels.height / spatial(),
          pixels.width / spatial()};
}

}  // namespace pendulum
