// The buckets of a stage: which sizes and lengths there are, and into which a sample falls.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "pendulum/cost.h"

namespace pendulum {

struct PictureSize {
  int height = 0, width = 0;  // pixels
  bool operator==(const PictureSize&) const = default;
};

// Multiples of codec and patch with at most the base's area, in which the largest share of a
// picture of this aspect and of the base's area survives: (area / base area) x (share kept by the
// crop). Ties go to the better aspect. Integers only, so every platform agrees.
PictureSize size_of_aspect(const Aspect& aspect, const PictureSize& base, int unit_height,
                           int unit_width);

// What is known of a sample without touching its media.
struct SampleShape {
  int width = 0, height = 0;  // as displayed
  int frames = 1;             // that it fills at the stage's rate, 4k + 1; a still 1
  bool is_still = true;
};

struct BucketChoice {
  uint8_t size = 0;     // place among the stage's sizes
  Shape shape;          // frames 0: refused
  std::string refusal;  // why, in words that all refused for it share
  double crop = 0;      // share of the picture that is cut away
  double scale = 1;     // of the crop's side to the bucket's; below 1 it is enlarged
};

class StageBuckets {
 public:
  StageBuckets(const StageConfig& stage, const Geometry& geometry);

  // The size with the least crop (ties: listed earlier), and the longest length that is filled.
  BucketChoice choose(const SampleShape& sample) const;
  const std::vector<PictureSize>& sizes() const { return sizes_; }

 private:
  int length_of(int frames) const;

  const StageConfig& stage_;
  Geometry geometry_;
  std::vector<PictureSize> sizes_;  // the stage's own first, or those of the listed aspects
};

}  // namespace pendulum
