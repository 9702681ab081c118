// One synthetic picture or clip before it is drawn: what it shows, where, and the words for it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/frames.h"
#include "data/shapes.h"

namespace pendulum {

// Colour, outline and direction of a clip.
struct Combination {
  Colour colour;
  Outline outline;
  Direction direction;
  bool operator==(const Combination&) const = default;
};

// The 12 of the 72 combinations that no training clip shows, whatever the seed: each colour twice,
// each outline four times, each direction three times.
std::vector<Combination> held_out_combinations();

// A scene, in units of the picture's side.
struct Scene {
  Colour colour = Colour::red;
  Outline outline = Outline::circle;
  Direction direction = Direction::left;  // of clips alone
  Background background = Background::black;
  bool is_large = false, is_fast = false;
  double radius = 0.2;
  double start_x = 0.5, start_y = 0.5;  // middle of the outline's box in the first frame
  double travel = 0;                    // from the first frame to the last
  Rgb colour_rgb{}, background_rgb{};
  uint64_t wording = 0;  // random bits that choose the caption's template
};

// Scenes are functions of (seed, index). Clips never show a held-out combination. The motion stays
// in the picture.
Scene still_scene(uint64_t seed, int64_t index);
Scene clip_scene(uint64_t seed, int64_t index);

// At most 14 words. Clips' captions always name colour, outline and direction; background, size and
// speed sometimes.
std::string still_caption(const Scene& scene);
std::string clip_caption(const Scene& scene);

// Draws with smoothed edges: count frames of size x size, evenly spaced along the travel.
Frames draw_scene(const Scene& scene, int count, int size);

// A caption to generate from and what a true clip of it shows.
struct EvaluationCaption {
  std::string caption;
  Combination shows;
};

// The fixed list for evaluation: 48 different captions, four wordings for each held-out
// combination. Their words are those of the training captions, their combinations are not.
std::vector<EvaluationCaption> evaluation_captions();

}  // namespace pendulum
