// From a decoded frame to RGB of the wanted size: crop about the centre, colours, resize, rotation.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "data/av_handles.h"
#include "data/frames.h"

namespace pendulum {

// What a display matrix asks for, restricted to what pixels can do exactly: a transposition, then
// mirrorings.
struct Orientation {
  bool transpose = false, mirror_x = false, mirror_y = false;
  static Orientation of(const std::optional<std::array<int32_t, 9>>& matrix);
};

// The frame's own orientation (EXIF, or in the stream) if it has one, otherwise the container's.
Orientation orientation_of(const AVFrame& frame,
                           const std::optional<std::array<int32_t, 9>>& container);

// Width of a pixel over its height: the container's word before the frame's, 1 where both are
// silent.
double pixel_aspect(const AVFrame& frame, AVRational container);

class FrameScaler {
 public:
  FrameScaler(int height, int width);
  // Fills out, (H, W, 3). Nothing, or why it cannot.
  std::optional<ReadFailure> draw(const AVFrame& frame, double aspect,
                                  const Orientation& orientation, std::span<uint8_t> out);

 private:
  struct Key {  // what a prepared SwsContext depends on
    int width, height, format, space, range, location, out_width, out_height;
    bool operator==(const Key&) const = default;
  };
  std::optional<ReadFailure> scale(const AVFrame& source, AVFrame& target);

  int height_, width_;
  AvScaler scaler_;
  Key key_{};
  AvFrame scaled_;  // before rotation, rows padded: swscale may write past a row's end
};

}  // namespace pendulum
