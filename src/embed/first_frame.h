// A clip's first frame to what an image-to-video model is given of it.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "data/frames.h"
#include "embed/clip_image.h"
#include "embed/codec.h"
#include "embed/conditions.h"

namespace pendulum {

// The one place that knows what image-to-video models are given, in training and in drawing, as
// WanImageToVideoPipeline prepares it. Thread-safe.
class FirstFrameEncoder {
 public:
  FirstFrameEncoder() = default;  // of models that are given none
  // image_encoder: null where the model attends to no image states. Both outlive this object.
  FirstFrameEncoder(FirstFrame kind, const Codec& codec, const ClipImageEncoder* image_encoder);

  FirstFrame kind() const { return kind_; }
  bool has_image_states() const { return image_encoder_ != nullptr; }
  // Changes whenever the same frame would be given differently, beside Codec::key().
  std::string key() const;

  // Of one sample, for a clip of `frames` frames that begins with this one: (M + C, F, h, w) or
  // (C, 1, h, w), without noise; and its image states (S, W).
  at::Tensor start(const Frames& first, int frames) const;
  at::Tensor image(const Frames& first) const;

  // (C, F, h, w) of that clip, the frames behind the first one grey: what start() puts its mask
  // before, and a cache keeps.
  at::Tensor grey_clip(const Frames& first, int frames) const;
  at::Tensor with_mask(const at::Tensor& grey_clip) const;

  // The same shapes in zeros: of samples that are given no frame, such as stills.
  Conditions nothing(const Shape& shape) const;

 private:
  FirstFrame kind_ = FirstFrame::none;
  const Codec* codec_ = nullptr;
  const ClipImageEncoder* image_encoder_ = nullptr;
};

}  // namespace pendulum
