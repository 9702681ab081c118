// Sizes by aspect, and the choice of a bucket, in integers.
#include "pendulum/buckets.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/random.h"

namespace pendulum {
namespace {

constexpr Aspect kUsualAspects[] = {{16, 9}, {3, 2}, {4, 3}, {1, 1}, {3, 4}, {2, 3}, {9, 16}};

// Share of a picture that a centred crop to another aspect keeps, as a fraction.
struct Share {
  uint128 part = 0, whole = 1;
  friend bool operator<(const Share& a, const Share& b) {
    return a.part * b.whole < b.part * a.whole;
  }
  double value() const { return static_cast<double>(part) / static_cast<double>(whole); }
};

Share kept(int64_t width, int64_t height, int64_t to_width, int64_t to_height) {
  const uint128 a = static_cast<uint128>(width) * to_height;
  const uint128 b = static_cast<uint128>(height) * to_width;
  return {std::min(a, b), std::max(a, b)};
}

}  // namespace

PictureSize size_of_aspect(const Aspect& aspect, const PictureSize& base, int unit_height,
                           int unit_width) {
  const int64_t area = int64_t{base.height} * base.width;
  PictureSize best{unit_height, unit_width};
  Share best_score, best_kept;
  for (int64_t height = unit_height; height * unit_width <= area; height += unit_height) {
    const int64_t wanted = height * aspect.width / aspect.height / unit_width * unit_width;
    for (int64_t width : {wanted, wanted + unit_width}) {
      width = std::clamp<int64_t>(width, unit_width, area / height / unit_width * unit_width);
      const Share share = kept(aspect.width, aspect.height, width, height);
      const Share score{share.part * static_cast<uint128>(width * height), share.whole};
      if (best_score < score || (!(score < best_score) && best_kept < share)) {
        best = {static_cast<int>(height), static_cast<int>(width)};
        best_score = score;
        best_kept = share;
      }
    }
  }
  return best;
}

StageBuckets::StageBuckets(const StageConfig& stage, const Geometry& geometry)
    : stage_(stage), geometry_(geometry) {
  const PictureSize base{stage.shape.height, stage.shape.width};
  std::vector<Aspect> aspects = stage.buckets.aspects;
  if (stage.buckets.auto_aspects)
    aspects.assign(std::begin(kUsualAspects), std::end(kUsualAspects));
  if (aspects.empty() || stage.buckets.auto_aspects) sizes_.push_back(base);
  for (const Aspect& aspect : aspects) {
    const PictureSize size = size_of_aspect(aspect, base, geometry.spatial * geometry.patch[1],
                                            geometry.spatial * geometry.patch[2]);
    if (std::find(sizes_.begin(), sizes_.end(), size) == sizes_.end()) sizes_.push_back(size);
  }
}

// The longest length that this many frames fill; 0: none.
int StageBuckets::length_of(int frames) const {
  const std::vector<int>& lengths = stage_.buckets.lengths;
  if (lengths.empty()) return fitting_frames(geometry_, std::min(frames, stage_.shape.frames));
  for (const int length : lengths) {
    if (length <= frames && fitting_frames(geometry_, length) == length) return length;
  }
  return 0;
}

BucketChoice StageBuckets::choose(const SampleShape& sample) const {
  BucketChoice out;
  Share best;
  for (size_t i = 0; i < sizes_.size(); ++i) {
    const PictureSize& size = sizes_[i];
    const Share share = kept(sample.width, sample.height, size.width, size.height);
    if (!(best < share)) continue;
    best = share;
    out.size = static_cast<uint8_t>(i);
    out.shape.height = size.height;
    out.shape.width = size.width;
  }
  out.crop = 1 - best.value();
  // The side along which nothing is cut away.
  out.scale = std::min(static_cast<double>(sample.width) / out.shape.width,
                       static_cast<double>(sample.height) / out.shape.height);
  out.shape.frames = sample.is_still ? fitting_frames(geometry_, 1) : length_of(sample.frames);
  const BucketConfig& buckets = stage_.buckets;
  const int least =
      std::max(buckets.min_frames, buckets.lengths.empty() ? 1 : buckets.lengths.back());
  if (!sample.is_still && (out.shape.frames == 0 || out.shape.frames < buckets.min_frames)) {
    out.refusal = fmt::format("shorter than {} frames at {:g} frames a second", least, stage_.fps);
  } else if (out.scale < buckets.min_scale) {
    out.refusal =
        fmt::format("smaller than {:g} of its bucket's height and width", buckets.min_scale);
  } else if (out.shape.frames == 0) {
    out.refusal = "codec and patch need more frames than one";
  }
  if (!out.refusal.empty()) out.shape.frames = 0;
  return out;
}

}  // namespace pendulum
