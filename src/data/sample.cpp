// Samples as JSON, and how many frames they can give.
#include "data/sample.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pendulum {

SampleFacts facts_of(const Sample& sample) {
  return {sample.kind,
          sample.width,
          sample.height,
          sample.frames,
          sample.seconds,
          sample.fps,
          sample.split == "validation"};
}

int clip_frames(const SampleFacts& sample, int limit, double fps) {
  check(limit >= 1 && fps > 0, "a frame limit and a rate: ", limit, ", ", fps);
  if (sample.kind == MediaKind::still || sample.frames < 2 || !(sample.fps > 0)) return 1;
  // Instants must lie between the appearance of the first and of the last frame. The slack of a
  // hundredth of a frame takes up rounded time stamps.
  const double span = sample.seconds - 1 / sample.fps;
  const double instants = std::floor(span * fps + 0.01) + 1;
  const int available = static_cast<int>(std::clamp(instants, 1.0, static_cast<double>(limit)));
  return (available - 1) / 4 * 4 + 1;
}

std::optional<Verdict> denial(const Sample& sample, const DenyList& denied) {
  const auto reason = denied.reason(sample.id, sample.sha256, sample.phashes);
  if (!reason) return std::nullopt;
  return Verdict{false, *reason, "rights.deny"};
}

Verdict judge(const Sample& sample, const Policy& policy, const DenyList& denied) {
  return denial(sample, denied).value_or(policy.judge(sample.rights()));
}

nlohmann::json to_json(const Sample& sample) {
  nlohmann::json object = {
      {"id", sample.id},         {"captions", sample.captions},  {"licence", sample.licence},
      {"holder", sample.holder}, {"basis", sample.basis},        {"split", sample.split},
      {"sha256", sample.sha256}, {"kind", name_of(sample.kind)}, {"width", sample.width},
      {"height", sample.height}, {"frames", sample.frames}};
  if (sample.kind == MediaKind::clip) {
    object["seconds"] = sample.seconds;
    object["fps"] = sample.fps;
  }
  add_terms(sample.terms, object);
  for (const uint64_t hash : sample.phashes) object["phashes"].push_back(print_phash(hash));
  if (!sample.excerpt.is_whole()) {
    object["start"] = sample.excerpt.start;
    if (std::isfinite(sample.excerpt.end)) object["end"] = sample.excerpt.end;
  }
  return object;
}

Sample sample_from_json(const nlohmann::json& object, const std::string& where) {
  try {
    Sample sample;
    object.at("id").get_to(sample.id);
    object.at("captions").get_to(sample.captions);
    object.at("licence").get_to(sample.licence);
    object.at("holder").get_to(sample.holder);
    object.at("basis").get_to(sample.basis);
    object.at("split").get_to(sample.split);
    object.at("sha256").get_to(sample.sha256);
    object.at("width").get_to(sample.width);
    object.at("height").get_to(sample.height);
    object.at("frames").get_to(sample.frames);
    const std::string kind = object.at("kind");
    sample.kind = kind == "clip" ? MediaKind::clip : MediaKind::still;
    if (kind == "clip") {
      object.at("seconds").get_to(sample.seconds);
      object.at("fps").get_to(sample.fps);
    }
    sample.terms = terms_from_json(object, where);
    for (const auto& digits : object.value("phashes", nlohmann::json::array())) {
      const auto hash = parse_phash(digits.get<std::string>());
      if (!hash) throw DataError(text(where, ": a perceptual hash is ", digits.dump()));
      sample.phashes.push_back(*hash);
    }
    sample.excerpt.start = object.value("start", 0.0);
    sample.excerpt.end = object.value("end", sample.excerpt.end);
    const bool plausible =
        !sample.id.empty() && !sample.captions.empty() && sample.sha256.size() == 64 &&
        sample.width > 0 && sample.height > 0 && sample.frames > 0 &&
        (kind == "still" || (kind == "clip" && sample.seconds > 0 && sample.fps > 0)) &&
        sample.excerpt.start >= 0 && sample.excerpt.end > sample.excerpt.start &&
        (sample.split == "train" || sample.split == "validation");
    if (!plausible) throw DataError(text(where, ": a value is out of its range"));
    return sample;
  } catch (const nlohmann::json::exception& e) {
    throw DataError(text(where, ": not a sample of a pack: ", e.what()));
  }
}

}  // namespace pendulum
