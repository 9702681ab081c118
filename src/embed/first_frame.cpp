// Mask, grey clip and image states.
#include "embed/first_frame.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace pendulum {

FirstFrameEncoder::FirstFrameEncoder(FirstFrame kind, const Codec& codec,
                                     const ClipImageEncoder* image_encoder)
    : kind_(kind), codec_(&codec), image_encoder_(image_encoder) {
  check(kind == FirstFrame::channels || !image_encoder,
        "image states go with first frames as channels");
}

std::string FirstFrameEncoder::key() const {
  if (kind_ == FirstFrame::none) return "";
  const std::string states = image_encoder_ ? " and " + image_encoder_->key() : "";
  return (kind_ == FirstFrame::channels ? "first frames as channels" : "first latent frames") +
         states;
}

at::Tensor FirstFrameEncoder::grey_clip(const Frames& first, int frames) const {
  return codec_->encode_first(first, frames);
}

// One mask channel for each of the frames in a latent frame; the first latent frame, which is one
// frame, counts as given in all of them.
at::Tensor FirstFrameEncoder::with_mask(const at::Tensor& grey_clip) const {
  at::Tensor mask = at::zeros(
      {codec_->temporal(), grey_clip.size(1), grey_clip.size(2), grey_clip.size(3)}, at::kFloat);
  mask.select(1, 0).fill_(1);
  return at::cat({mask, grey_clip});
}

at::Tensor FirstFrameEncoder::start(const Frames& first, int frames) const {
  if (kind_ == FirstFrame::latent) return codec_->mean(codec_->encode(first));
  return with_mask(grey_clip(first, frames));
}

at::Tensor FirstFrameEncoder::image(const Frames& first) const {
  return image_encoder_->states(first);
}

Conditions FirstFrameEncoder::nothing(const Shape& shape) const {
  Conditions out;
  if (kind_ == FirstFrame::none) return out;
  const LatentShape s = codec_->latent_shape(shape);
  const int channels = codec_->channels();
  out.start = kind_ == FirstFrame::latent
                  ? at::zeros({channels, 1, s.height, s.width})
                  : at::zeros({codec_->temporal() + channels, s.frames, s.height, s.width});
  if (image_encoder_) out.image = at::zeros({image_encoder_->tokens(), image_encoder_->dim()});
  return out;
}

}  // namespace pendulum
