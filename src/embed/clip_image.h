// First frames to the image states that Wan's image-to-video models attend to.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/frames.h"
#include "embed/clip_vision.h"
#include "embed/text_encoder.h"

namespace pendulum {

// Image encoder "clip", as WanImageToVideoPipeline uses it: CLIPImageProcessor's pixels, and the
// hidden states before the last layer. Thread-safe.
class ClipImageEncoder {
 public:
  // image.weights: diffusers' folder with image_encoder/, that folder itself, or a safetensors
  // file. ConfigError for another kind or where nothing is there; DataError as ClipVision.
  explicit ClipImageEncoder(const ImageConfig& config);

  // (tokens, dim) fp32: of the first of these frames, of any size. ViT-H/14: (257, 1280).
  at::Tensor states(const Frames& frames) const;

  int tokens() const { return static_cast<int>(network_.config().tokens()); }
  int dim() const { return static_cast<int>(network_.config().width); }
  // Changes whenever the same frame would give other states. Reads all weights the first time.
  std::string key() const;
  nlohmann::json describe() const;  // kind, tokens, dim, key
  // From these files the same encoder can be opened again, in image_encoder/.
  std::vector<TakenFile> files() const;

 private:
  ClipVision network_;
  mutable std::once_flag key_once_;
  mutable std::string key_;
};

// The encoder that a configuration names; null where image.kind is none. Errors as above.
std::unique_ptr<ClipImageEncoder> make_image_encoder(const ImageConfig& config);

}  // namespace pendulum
