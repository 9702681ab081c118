// The shape of what is trained on: frames x height x width, in pixels.
#pragma once
#include <compare>
#include <cstdint>
#include <string>

namespace pendulum {

struct Shape {
  int frames = 1;  // 4k + 1
  int height = 0;  // pixels
  int width = 0;
  auto operator<=>(const Shape&) const = default;
  // "9x32x32": frames x height x width, as in a bucket's name.
  std::string name() const {
    return std::to_string(frames) + "x" + std::to_string(height) + "x" + std::to_string(width);
  }
};

}  // namespace pendulum
