// Clips of noise.
#pragma once
#include <cstdint>

#include "core/random.h"
#include "data/frames.h"

namespace pendulum {

inline Frames random_frames(int count, int height, int width, uint64_t seed) {
  Frames frames(count, height, width);
  for (size_t i = 0; i < frames.rgb.size(); ++i) frames.rgb[i] = draw(seed, i) & 255;
  return frames;
}

}  // namespace pendulum
