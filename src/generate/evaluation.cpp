// Items, counting and tables of the caption accuracy.
#include "generate/evaluation.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/detector.h"

namespace pendulum {
namespace {

constexpr int kSeedsPerCaption = 1000;

struct Property {
  const char* name;
  int64_t right;
  int64_t of;
  double chance;
};

std::vector<Property> properties(const Accuracy& accuracy) {
  std::vector<Property> out{{"colour", accuracy.colour, accuracy.clips, kColourChance},
                            {"shape", accuracy.shape, accuracy.clips, kShapeChance}};
  if (accuracy.moving > 0)
    out.push_back({"direction", accuracy.direction, accuracy.moving, kDirectionChance});
  return out;
}

}  // namespace

std::vector<EvaluationItem> evaluation_items(int captions, int seeds) {
  const auto held_out = evaluation_captions();
  if (captions < 1 || captions > static_cast<int>(held_out.size())) {
    throw ConfigError(
        text(captions, " captions: there are 1 to ", held_out.size(), " held-out captions"));
  }
  if (seeds < 1 || seeds > kSeedsPerCaption) {
    throw ConfigError(text(seeds, " seeds per caption: 1 to ", kSeedsPerCaption));
  }
  std::vector<EvaluationItem> items;
  for (int c = 0; c < captions; ++c) {
    for (int s = 0; s < seeds; ++s) {
      items.push_back(
          {held_out[c], {held_out[c].caption, static_cast<uint64_t>(c * kSeedsPerCaption + s)}});
    }
  }
  return items;
}

Accuracy& Accuracy::operator+=(const Accuracy& other) {
  clips += other.clips;
  moving += other.moving;
  colour += other.colour;
  shape += other.shape;
  direction += other.direction;
  return *this;
}

Proportion proportion(int64_t right, int64_t of) {
  if (of == 0)
    return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
  const double share = static_cast<double>(right) / static_cast<double>(of);
  return {share, std::sqrt(share * (1 - share) / static_cast<double>(of))};
}

Accuracy judge(const EvaluationItem& item, const Frames& clip) {
  const Detection seen = detect(clip);
  Accuracy accuracy{.clips = 1, .moving = clip.count > 1};
  accuracy.colour = seen.colour == item.caption.shows.colour;
  accuracy.shape = seen.outline == item.caption.shows.outline;
  accuracy.direction = clip.count > 1 && seen.direction == item.caption.shows.direction;
  return accuracy;
}

std::string one_line(const Accuracy& accuracy) {
  std::string line;
  for (const Property& property : properties(accuracy)) {
    const Proportion measured = proportion(property.right, property.of);
    line += fmt::format("{} {:.3f} +- {:.3f}, ", property.name, measured.share, measured.error);
  }
  line.resize(line.size() - 2);
  return fmt::format("{} ({} clips)", line, accuracy.clips);
}

std::string table(const Accuracy& accuracy) {
  std::string lines =
      fmt::format("{:<10}{:>10}{:>10}{:>10}{:>9}\n", "", "right", "accuracy", "+-", "chance");
  for (const Property& property : properties(accuracy)) {
    const Proportion measured = proportion(property.right, property.of);
    lines += fmt::format("{:<10}{:>10}{:>10.3f}{:>10.3f}{:>9.2f}\n", property.name,
                         fmt::format("{}/{}", property.right, property.of), measured.share,
                         measured.error, property.chance);
  }
  return lines;
}

nlohmann::json to_json(const Accuracy& accuracy) {
  nlohmann::json json{{"clips", accuracy.clips}};
  for (const Property& property : properties(accuracy)) {
    const Proportion measured = proportion(property.right, property.of);
    json[property.name] = {{"right", property.right},
                           {"of", property.of},
                           {"accuracy", measured.share},
                           {"error", measured.error},
                           {"chance", property.chance}};
  }
  return json;
}

}  // namespace pendulum
