// How often a drawn clip shows the colour, shape and direction that its caption says.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/shape.h"
#include "data/frames.h"
#include "data/scene.h"
#include "generate/generator.h"

namespace pendulum {

// One clip to draw and what it should show.
struct EvaluationItem {
  EvaluationCaption caption;
  Prompt prompt;
};

// The first `captions` of the fixed held-out captions, each with `seeds` seeds: all seeds of a
// caption, then the next. Seed s of caption c is 1000 c + s, so that any clip can be drawn again
// alone. ConfigError where there are fewer captions than asked for, or seeds outside 1..1000.
std::vector<EvaluationItem> evaluation_items(int captions, int seeds);

// Counts of right answers. Sums of two are the counts of both.
struct Accuracy {
  int64_t clips = 0;
  int64_t moving = 0;  // of them, clips of more than one frame: a direction can be judged
  int64_t colour = 0;
  int64_t shape = 0;
  int64_t direction = 0;

  Accuracy& operator+=(const Accuracy& other);
};

// One property: share of right answers and its standard error sqrt(p (1 - p) / n); both NaN where n
// is 0.
struct Proportion {
  double share = 0;
  double error = 0;
};
Proportion proportion(int64_t right, int64_t of);

// What chance gives: captions name one of 6 colours, 3 shapes, 4 directions.
inline constexpr double kColourChance = 1.0 / 6, kShapeChance = 1.0 / 3, kDirectionChance = 1.0 / 4;

// What one clip shows of its caption.
Accuracy judge(const EvaluationItem& item, const Frames& clip);

// "colour 0.990 +- 0.007, shape 0.719 +- 0.032, direction 0.880 +- 0.023 (192 clips)"; no direction
// for stills.
std::string one_line(const Accuracy& accuracy);
// The same with counts and chance levels, a line each.
std::string table(const Accuracy& accuracy);
// {"clips": n, "colour": {"right": n, "of": n, "accuracy": p, "error": e, "chance": c}, ...}
nlohmann::json to_json(const Accuracy& accuracy);

}  // namespace pendulum
