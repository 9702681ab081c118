// A fixed, analytic detector for synthetic clips: colour, outline and direction of the one thing
// that is shown.
#pragma once
#include <optional>

#include "data/frames.h"
#include "data/shapes.h"

namespace pendulum {

// What was found; nothing where the frames show no such thing. Margins are how far the winner lies
// ahead of the runner-up, from 0 (a tie) to 1: colour in hue, outline in overlap, direction in
// displacement.
struct Detection {
  std::optional<Colour> colour;
  std::optional<Outline> outline;
  std::optional<Direction> direction;
  double colour_margin = 0, outline_margin = 0, direction_margin = 0;
  double visible = 0;  // share of the frames in which something was found
};

// No training, no state. The background is the median of the border; a pixel belongs to the thing
// by how far its colour is from the background towards the thing's own; the colour is the nearest
// hue; the outline is the one whose drawing of equal area at the centroid overlaps best; the
// direction is the larger axis of the centroid's mean velocity. A single frame has no direction.
Detection detect(const Frames& frames);

}  // namespace pendulum
