// The pixels that CLIP looks at: resized as Pillow does, cropped and normalised.
#pragma once
#include <ATen/core/Tensor.h>

#include "data/frames.h"

namespace pendulum {

// The first frame at another size, byte for byte as Pillow's Image.resize with BICUBIC gives it
// (src/libImaging/Resample.c) where the aspect is kept, which is how CLIP resizes, and is a video's
// (tested to 2:1); else some bytes differ by rounding. A bicubic kernel (a = -0.5) as wide as the
// reduction, first along rows, then along columns, in fixed point with 22 bits, rounded to 8 bits
// in between.
Frames resize_bicubic(const Frames& frames, int height, int width);

// transformers' CLIPImageProcessor with its defaults: the shorter side resized to `size`, the
// middle cut out, scaled to [0, 1], CLIP's mean and standard deviation. (3, size, size) fp32.
at::Tensor clip_pixels(const Frames& frames, int size);

}  // namespace pendulum
