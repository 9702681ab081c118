// The detector's steps: background, thing, colour, outline per frame, motion over frames.
#include "data/detector.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace pendulum {
namespace {

constexpr double kVisible = 40;  // distance in RGB from the background below which nothing is there
constexpr double kColourful = 25;       // range of the channels below which a thing has no hue
constexpr double kSmallestArea = 0.01;  // of the picture
constexpr double kLargestArea = 0.6;
constexpr double kLeastMotion = 0.02;  // of the side, over the whole clip
constexpr double kLeastOverlap = 0.5;

double distance(const Rgb& a, const Rgb& b) {
  return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

Rgb rgb_at(const Frames& frames, int t, int y, int x) {
  const uint8_t* p = frames.pixel(t, y, x);
  return {double(p[0]), double(p[1]), double(p[2])};
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Per channel, the median of the border. A thing at the edge covers less than half of it.
Rgb background_of(const Frames& frames, int t) {
  Rgb out{};
  for (int c = 0; c < 3; ++c) {
    std::vector<double> values;
    for (int x = 0; x < frames.width; ++x) {
      values.push_back(frames.pixel(t, 0, x)[c]);
      values.push_back(frames.pixel(t, frames.height - 1, x)[c]);
    }
    for (int y = 1; y + 1 < frames.height; ++y) {
      values.push_back(frames.pixel(t, y, 0)[c]);
      values.push_back(frames.pixel(t, y, frames.width - 1)[c]);
    }
    out[c] = median(values);
  }
  return out;
}

// The thing in one frame.
struct Thing {
  Rgb colour{};
  double area = 0, x = 0, y = 0;  // pixels; centroid
  std::vector<double> mask;       // (H, W), 0..1: how much of each pixel it covers
};

// The colour of the thing's inside: the mean of the pixels farthest from the background, a quarter
// of those that are clearly not background, so that mixed pixels of the edge stay out.
std::optional<Rgb> inner_colour(const Frames& frames, int t, const Rgb& background) {
  std::vector<std::pair<double, Rgb>> far;
  for (int y = 0; y < frames.height; ++y) {
    for (int x = 0; x < frames.width; ++x) {
      const Rgb rgb = rgb_at(frames, t, y, x);
      const double d = distance(rgb, background);
      if (d > kVisible) far.emplace_back(d, rgb);
    }
  }
  const size_t count = far.size();
  if (static_cast<double>(count) < kSmallestArea * frames.height * frames.width)
    return std::nullopt;
  const size_t kept = std::max<size_t>(1, count / 4);
  std::nth_element(far.begin(), far.begin() + static_cast<std::ptrdiff_t>(kept - 1), far.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  Rgb mean{};
  for (size_t i = 0; i < kept; ++i) {
    for (int c = 0; c < 3; ++c) mean[c] += far[i].second[c] / static_cast<double>(kept);
  }
  return mean;
}

std::optional<Thing> find_thing(const Frames& frames, int t) {
  const Rgb background = background_of(frames, t);
  const auto colour = inner_colour(frames, t, background);
  if (!colour) return std::nullopt;
  Thing thing;
  thing.colour = *colour;
  thing.mask.resize(size_t(frames.height) * frames.width);
  const double length = distance(*colour, background);
  for (int y = 0; y < frames.height; ++y) {
    for (int x = 0; x < frames.width; ++x) {
      const Rgb rgb = rgb_at(frames, t, y, x);
      double along = 0;
      for (int c = 0; c < 3; ++c)
        along += (rgb[c] - background[c]) * ((*colour)[c] - background[c]);
      double cover = std::clamp(along / (length * length), 0.0, 1.0);
      if (cover < 0.15) cover = 0;  // noise of the background, which is most of the picture
      thing.mask[size_t(y) * frames.width + x] = cover;
      thing.area += cover;
      thing.x += cover * (x + 0.5);
      thing.y += cover * (y + 0.5);
    }
  }
  const double picture = double(frames.height) * frames.width;
  if (thing.area < kSmallestArea * picture || thing.area > kLargestArea * picture)
    return std::nullopt;
  thing.x /= thing.area;
  thing.y /= thing.area;
  return thing;
}

// How well the thing is covered by an outline of the same area and centroid: smaller over larger,
// summed.
double overlap(const Thing& thing, Outline outline, int height, int width) {
  const double radius = std::sqrt(thing.area / unit_area(outline));
  const double middle_y = thing.y - radius * unit_centroid_y(outline);
  double common = 0, either = 0;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double drawn = coverage(outline, x + 0.5 - thing.x, y + 0.5 - middle_y, radius);
      const double seen = thing.mask[size_t(y) * width + x];
      common += std::min(drawn, seen);
      either += std::max(drawn, seen);
    }
  }
  return common / either;
}

// Hue as an angle in turns; nothing for grays.
std::optional<double> hue_of(const Rgb& rgb) {
  if (std::ranges::max(rgb) - std::ranges::min(rgb) < kColourful) return std::nullopt;
  const double x = rgb[0] - 0.5 * (rgb[1] + rgb[2]), y = std::sqrt(0.75) * (rgb[1] - rgb[2]);
  return std::atan2(y, x) / (2 * std::numbers::pi);
}

// Sets winner and its lead in [0, 1] over the second best. scores: the larger the better.
template <class Kind, size_t N>
void decide(const std::array<double, N>& scores, double scale, std::optional<Kind>& winner,
            double& margin) {
  const auto best = std::max_element(scores.begin(), scores.end());
  double second = -1e300;
  for (auto it = scores.begin(); it != scores.end(); ++it) {
    if (it != best) second = std::max(second, *it);
  }
  winner = static_cast<Kind>(best - scores.begin());
  margin = std::clamp((*best - second) / scale, 0.0, 1.0);
}

void find_colour(const std::vector<Thing>& things, Detection& out) {
  Rgb mean{};
  for (const Thing& thing : things) {
    for (int c = 0; c < 3; ++c) mean[c] += thing.colour[c] / static_cast<double>(things.size());
  }
  const auto hue = hue_of(mean);
  if (!hue) return;
  std::array<double, kColours> scores{};
  for (int i = 0; i < kColours; ++i) {
    const double turn = std::abs(*hue - *hue_of(rgb_of(static_cast<Colour>(i))));
    scores[i] = -std::min(turn, 1 - turn);
  }
  decide(scores, 1.0 / 6, out.colour, out.colour_margin);
}

void find_outline(const std::vector<Thing>& things, const Frames& frames, Detection& out) {
  std::array<double, kOutlines> scores{};
  for (const Thing& thing : things) {
    for (int i = 0; i < kOutlines; ++i) {
      scores[i] += overlap(thing, static_cast<Outline>(i), frames.height, frames.width) /
                   static_cast<double>(things.size());
    }
  }
  if (*std::max_element(scores.begin(), scores.end()) < kLeastOverlap) return;
  decide(scores, 1.0, out.outline, out.outline_margin);
}

// Least squares over time, so that one frame gone wrong does not decide.
void find_direction(const std::vector<Thing>& things, const std::vector<int>& times,
                    const Frames& frames, Detection& out) {
  if (things.size() < 2) return;
  const auto count = static_cast<double>(things.size());
  double mean_t = 0;
  for (const int t : times) mean_t += t / count;
  double squares = 0, slope_x = 0, slope_y = 0;
  for (size_t i = 0; i < things.size(); ++i) {
    const double dt = times[i] - mean_t;
    squares += dt * dt;
    slope_x += dt * things[i].x;
    slope_y += dt * things[i].y;
  }
  const double span = (times.back() - times.front()) / squares;
  const double x = slope_x * span / frames.width, y = slope_y * span / frames.height;
  if (std::max(std::abs(x), std::abs(y)) < kLeastMotion) return;
  decide(std::array<double, kDirections>{-x, x, -y, y}, std::max(std::abs(x), std::abs(y)),
         out.direction, out.direction_margin);
}

}  // namespace

Detection detect(const Frames& frames) {
  Detection out;
  std::vector<Thing> things;
  std::vector<int> times;
  for (int t = 0; t < frames.count; ++t) {
    if (auto thing = find_thing(frames, t)) {
      things.push_back(std::move(*thing));
      times.push_back(t);
    }
  }
  if (things.empty()) return out;
  out.visible = static_cast<double>(things.size()) / frames.count;
  find_colour(things, out);
  find_outline(things, frames, out);
  find_direction(things, times, frames, out);
  return out;
}

}  // namespace pendulum
