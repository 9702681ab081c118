// Names, colours and outlines of the synthetic data.
#include "data/shapes.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pendulum {
namespace {

constexpr double kSquareSide = 0.9;  // half of it, for radius 1
const double kTriangleHalfHeight = std::sqrt(3.0) / 2;

// Distance to the outline, negative inside; exact along edges, an underestimate beyond corners,
// which the half pixel of smoothing does not show.
double signed_distance(Outline outline, double dx, double dy, double radius) {
  switch (outline) {
    case Outline::circle:
      return std::hypot(dx, dy) - radius;
    case Outline::square:
      return std::max(std::abs(dx), std::abs(dy)) - kSquareSide * radius;
    case Outline::triangle: {
      const double half_height = kTriangleHalfHeight * radius;
      const double base = dy - half_height;
      // The slanted sides: normals (+-cos 30, -sin 30), through the tip (0, -half_height).
      const double side = std::abs(dx) * (std::sqrt(3.0) / 2) - (dy + half_height) * 0.5;
      // The box trims the corners, where half a pixel of smoothing would reach a whole pixel out.
      return std::max({base, side, std::abs(dx) - radius, -dy - half_height});
    }
  }
  return 0;
}

}  // namespace

const char* name_of(Colour colour) {
  static constexpr const char* kNames[] = {"red", "green", "blue", "yellow", "magenta", "cyan"};
  return kNames[static_cast<int>(colour)];
}
const char* name_of(Outline outline) {
  static constexpr const char* kNames[] = {"circle", "square", "triangle"};
  return kNames[static_cast<int>(outline)];
}
const char* name_of(Direction direction) {
  static constexpr const char* kNames[] = {"left", "right", "up", "down"};
  return kNames[static_cast<int>(direction)];
}
const char* name_of(Background background) {
  static constexpr const char* kNames[] = {"black", "dark gray", "gray", "light gray", "white"};
  return kNames[static_cast<int>(background)];
}

// Hues 60 degrees apart, each near full saturation.
Rgb rgb_of(Colour colour) {
  static constexpr Rgb kValues[] = {{225, 25, 25},  {25, 190, 25},  {30, 30, 230},
                                    {235, 225, 25}, {220, 25, 215}, {25, 215, 225}};
  return kValues[static_cast<int>(colour)];
}
Rgb rgb_of(Background background) {
  static constexpr double kGray[] = {12, 64, 128, 190, 243};
  const double g = kGray[static_cast<int>(background)];
  return {g, g, g};
}

double coverage(Outline outline, double dx, double dy, double radius) {
  return std::clamp(0.5 - signed_distance(outline, dx, dy, radius), 0.0, 1.0);
}

double unit_area(Outline outline) {
  switch (outline) {
    case Outline::circle:
      return std::numbers::pi;
    case Outline::square:
      return 4 * kSquareSide * kSquareSide;
    case Outline::triangle:
      return 2 * kTriangleHalfHeight;
  }
  return 0;
}

double unit_centroid_y(Outline outline) {
  // A triangle's centroid lies a third of its height above its base.
  return outline == Outline::triangle ? kTriangleHalfHeight / 3 : 0;
}

std::array<int, 2> step_of(Direction direction) {
  static constexpr std::array<int, 2> kSteps[] = {{-1, 0}, {1, 0}, {0, -1}, {0, 1}};
  return kSteps[static_cast<int>(direction)];
}

}  // namespace pendulum
