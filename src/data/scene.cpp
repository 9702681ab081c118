// Draws scenes and words them; every choice is a function of (seed, index, what is chosen).
#include "data/scene.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "core/random.h"

namespace pendulum {
namespace {

// Words of a choice's key. Part of what a seed means: never renumber.
enum Choice : uint64_t {
  kWhich = 1,
  kSurroundings,
  kSize,
  kRadius,
  kSpeed,
  kTravel,
  kX,
  kY,
  kWording,
  kTint
};
enum Kind : uint64_t { kStill = 1, kClip = 2, kEvaluation = 3 };

constexpr double kMargin = 0.02;  // of the side, between outline and edge

constexpr std::string_view kStillTemplates[] = {
    "a {colour} {shape}",
    "a {size} {colour} {shape}",
    "a {colour} {shape} on a {background} background",
    "a picture of a {colour} {shape}",
    "a {size} {colour} {shape} on {background}",
    "an image of a {size} {colour} {shape}",
    "one {colour} {shape} in front of a {background} background",
    "{colour} {shape}, {size}",
    "a still {colour} {shape} over {background}",
    "a simple drawing of a {colour} {shape}",
};

constexpr std::string_view kClipTemplates[] = {
    "a {colour} {shape} moving {direction}",
    "a {colour} {shape} moves {direction} on a {background} background",
    "a {size} {colour} {shape} moving {direction}",
    "a {colour} {shape} going {direction} {speed}",
    "the {colour} {shape} {speed} moves {direction}",
    "a video of a {colour} {shape} moving {direction}",
    "a {size} {colour} {shape} travels {direction} over {background}",
    "a {colour} {shape} on {background}, moving {speed} {direction}",
    "{colour} {shape} moving {direction}, {background} background",
    "a clip of a {size} {colour} {shape} that {speed} goes {direction}",
};

std::string fill(std::string_view words, const Scene& scene) {
  static constexpr std::array<std::array<const char*, 2>, kDirections> kDirectionWords = {
      {{"left", "to the left"},
       {"right", "to the right"},
       {"up", "upwards"},
       {"down", "downwards"}}};
  const auto& direction = kDirectionWords[static_cast<int>(scene.direction)];
  const std::array<std::array<std::string_view, 2>, 6> values = {{
      {"colour", name_of(scene.colour)},
      {"shape", name_of(scene.outline)},
      {"direction", direction[below(2, fold(scene.wording, 1))]},
      {"background", name_of(scene.background)},
      {"size", scene.is_large ? "large" : "small"},
      {"speed", scene.is_fast ? "quickly" : "slowly"},
  }};
  std::string out;
  while (!words.empty()) {
    const size_t open = words.find('{');
    out += words.substr(0, open);
    if (open == words.npos) break;
    const size_t shut = words.find('}', open);
    const std::string_view name = words.substr(open + 1, shut - open - 1);
    for (const auto& [key, value] : values) {
      if (key == name) out += value;
    }
    words.remove_prefix(shut + 1);
  }
  return out;
}

template <size_t N>
std::string caption_from(const std::string_view (&templates)[N], const Scene& scene) {
  return fill(templates[below(N, scene.wording)], scene);
}

double between(double low, double high, uint64_t bits) {
  return low + (high - low) * uniform(bits);
}

// Each channel a little off: colours have names, not values.
Rgb tinted(Rgb rgb, uint64_t key, double reach) {
  for (int c = 0; c < 3; ++c)
    rgb[c] = std::clamp(rgb[c] + between(-reach, reach, fold(key, c)), 0.0, 255.0);
  return rgb;
}

// What stills and clips share.
void furnish(Scene& scene, uint64_t key) {
  scene.background = static_cast<Background>(below(kBackgrounds, fold(key, kSurroundings)));
  scene.is_large = below(2, fold(key, kSize)) == 1;
  scene.radius = scene.is_large ? between(0.26, 0.30, fold(key, kRadius))
                                : between(0.18, 0.22, fold(key, kRadius));
  scene.wording = fold(key, kWording);
  scene.colour_rgb = tinted(rgb_of(scene.colour), fold(key, kTint), 10);
  const double gray = between(-6, 6, fold(fold(key, kTint), 3));
  scene.background_rgb = rgb_of(scene.background);
  for (double& value : scene.background_rgb) value = std::clamp(value + gray, 0.0, 255.0);
}

// A place for the middle such that the outline stays inside on this axis while it moves by `move`.
double place(double radius, double move, uint64_t bits) {
  const double low = radius + kMargin + std::max(0.0, -move);
  const double high = 1 - radius - kMargin - std::max(0.0, move);
  return between(low, high, bits);
}

Scene moving_scene(const Combination& shows, uint64_t key) {
  Scene scene;
  scene.colour = shows.colour;
  scene.outline = shows.outline;
  scene.direction = shows.direction;
  furnish(scene, key);
  scene.is_fast = below(2, fold(key, kSpeed)) == 1;
  const double room = 1 - 2 * (scene.radius + kMargin);
  const double wanted = scene.is_fast ? between(0.34, 0.50, fold(key, kTravel))
                                      : between(0.18, 0.26, fold(key, kTravel));
  scene.travel = std::min(wanted, room);
  const auto [x, y] = step_of(scene.direction);
  scene.start_x = place(scene.radius, x * scene.travel, fold(key, kX));
  scene.start_y = place(scene.radius, y * scene.travel, fold(key, kY));
  return scene;
}

std::vector<Combination> training_combinations() {
  const std::vector<Combination> held_out = held_out_combinations();
  std::vector<Combination> out;
  for (int i = 0; i < kColours * kOutlines * kDirections; ++i) {
    const Combination c{static_cast<Colour>(i % kColours),
                        static_cast<Outline>(i / kColours % kOutlines),
                        static_cast<Direction>(i / kColours / kOutlines)};
    if (std::find(held_out.begin(), held_out.end(), c) == held_out.end()) out.push_back(c);
  }
  return out;
}

}  // namespace

std::vector<Combination> held_out_combinations() {
  std::vector<Combination> out;
  // i mod 6 with i mod 4 runs through 12 different pairs; the outline is shifted in the second
  // half, so that it does not follow from the colour.
  for (int i = 0; i < 12; ++i) {
    out.push_back({static_cast<Colour>(i % kColours), static_cast<Outline>((i + i / 6) % kOutlines),
                   static_cast<Direction>(i % kDirections)});
  }
  return out;
}

Scene still_scene(uint64_t seed, int64_t index) {
  const uint64_t key = draw(Purpose::synthesis, seed, kStill, index);
  const uint64_t which = below(kColours * kOutlines, fold(key, kWhich));
  Scene scene;
  scene.colour = static_cast<Colour>(which % kColours);
  scene.outline = static_cast<Outline>(which / kColours);
  furnish(scene, key);
  scene.start_x = place(scene.radius, 0, fold(key, kX));
  scene.start_y = place(scene.radius, 0, fold(key, kY));
  return scene;
}

Scene clip_scene(uint64_t seed, int64_t index) {
  static const std::vector<Combination> combinations = training_combinations();
  const uint64_t key = draw(Purpose::synthesis, seed, kClip, index);
  return moving_scene(combinations[below(combinations.size(), fold(key, kWhich))], key);
}

std::string still_caption(const Scene& scene) { return caption_from(kStillTemplates, scene); }
std::string clip_caption(const Scene& scene) { return caption_from(kClipTemplates, scene); }

Frames draw_scene(const Scene& scene, int count, int size) {
  Frames frames(count, size, size);
  const auto [step_x, step_y] = step_of(scene.direction);
  const double radius = scene.radius * size;
  for (int t = 0; t < count; ++t) {
    const double moved = count > 1 ? scene.travel * t / (count - 1) : 0;
    const double x0 = (scene.start_x + step_x * moved) * size,
                 y0 = (scene.start_y + step_y * moved) * size;
    uint8_t* out = frames.pixel(t, 0, 0);
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x) {
        const double cover = coverage(scene.outline, x + 0.5 - x0, y + 0.5 - y0, radius);
        for (int c = 0; c < 3; ++c) {
          const double value =
              scene.background_rgb[c] + cover * (scene.colour_rgb[c] - scene.background_rgb[c]);
          *out++ = static_cast<uint8_t>(value + 0.5);
        }
      }
    }
  }
  return frames;
}

std::vector<EvaluationCaption> evaluation_captions() {
  std::vector<EvaluationCaption> out;
  for (const Combination& shows : held_out_combinations()) {
    for (int wording = 0; wording < 4; ++wording) {
      const auto number = static_cast<int64_t>(out.size());
      Scene scene = moving_scene(shows, draw(Purpose::synthesis, 0, kEvaluation, number));
      // Steps of 3 through 10 templates: all are used, and none twice for one combination.
      out.push_back({fill(kClipTemplates[3 * number % std::size(kClipTemplates)], scene), shows});
    }
  }
  return out;
}

}  // namespace pendulum
