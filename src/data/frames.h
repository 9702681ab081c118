// Decoded pixels, and whether they come from a still or from a clip.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace pendulum {

enum class MediaKind { still, clip };

inline const char* name_of(MediaKind kind) { return kind == MediaKind::still ? "still" : "clip"; }

// Frames of one size, 8 bits, R G B, full range (0 black, 255 white). rgb is (T, H, W, 3), rows
// without padding.
struct Frames {
  int count = 0, height = 0, width = 0;
  std::vector<uint8_t> rgb;

  Frames() = default;
  Frames(int count_, int height_, int width_)
      : count(count_), height(height_), width(width_), rgb(count_ * frame_bytes()) {}

  size_t frame_bytes() const { return size_t{3} * height * width; }
  std::span<uint8_t> frame(int t) { return {rgb.data() + t * frame_bytes(), frame_bytes()}; }
  std::span<const uint8_t> frame(int t) const {
    return {rgb.data() + t * frame_bytes(), frame_bytes()};
  }
  // The three bytes of one pixel.
  uint8_t* pixel(int t, int y, int x) {
    return rgb.data() + t * frame_bytes() + 3 * (size_t(y) * width + x);
  }
  const uint8_t* pixel(int t, int y, int x) const {
    return rgb.data() + t * frame_bytes() + 3 * (size_t(y) * width + x);
  }
};

// A stretch of a longer medium, in seconds after its first frame appears: the frames that appear in
// [start, end).
struct Excerpt {
  double start = 0, end = std::numeric_limits<double>::infinity();
  bool is_whole() const { return start <= 0 && end == std::numeric_limits<double>::infinity(); }
  bool operator==(const Excerpt&) const = default;
};

// Why a medium could not be used: an expected failure, counted and listed, never thrown.
struct ReadFailure {
  std::string reason;
};

}  // namespace pendulum
