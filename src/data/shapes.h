// The vocabulary of the synthetic data: what can be drawn, and what the detector can find.
#pragma once
#include <array>
#include <cstdint>

namespace pendulum {

enum class Colour { red, green, blue, yellow, magenta, cyan };
enum class Outline { circle, square, triangle };
enum class Direction { left, right, up, down };
enum class Background { black, dark_gray, gray, light_gray, white };

inline constexpr int kColours = 6, kOutlines = 3, kDirections = 4, kBackgrounds = 5;

const char* name_of(Colour colour);
const char* name_of(Outline outline);
const char* name_of(Direction direction);
const char* name_of(Background background);

using Rgb = std::array<double, 3>;  // 0..255
Rgb rgb_of(Colour colour);
Rgb rgb_of(Background background);

// How much of the pixel at (dx, dy) from the middle of the outline's bounding box is covered, 0..1;
// y points down, units are pixels. radius is half the outline's width: squares are 0.9 of it and
// triangles point up, equilateral, so that the three look alike in size.
double coverage(Outline outline, double dx, double dy, double radius);

// The area inside the outline, in square pixels, and how far its centroid lies below the middle of
// its box, both for radius 1 (area scales with radius squared, the offset with radius).
double unit_area(Outline outline);
double unit_centroid_y(Outline outline);

// One step to a direction, y down.
std::array<int, 2> step_of(Direction direction);

}  // namespace pendulum
