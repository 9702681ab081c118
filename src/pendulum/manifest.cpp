// The plan frozen as JSON, its hash, and the difference of two such manifests in words.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "pendulum/calibration.h"
#include "pendulum/plan.h"

namespace pendulum {
namespace {

using nlohmann::json;

// 2: the entries themselves, tombstones, parts of the data, changes during the run, costs.
constexpr int kFormat = 2;

std::string hex(uint128 value) {
  const auto high = static_cast<uint64_t>(value >> 64), low = static_cast<uint64_t>(value);
  return high ? fmt::format("{:x}{:016x}", high, low) : fmt::format("{:x}", low);
}

std::string hash_of(const std::vector<int64_t>& entries) {
  std::string decimal;
  for (const int64_t entry : entries) decimal += std::to_string(entry) + "\n";
  return sha256(decimal);
}

// "0-59,61,70-72": runs of numbers one above the other, in the list's order.
std::string ranges_of(const std::vector<int64_t>& numbers) {
  std::string out;
  for (size_t begin = 0, end; begin < numbers.size(); begin = end) {
    for (end = begin + 1; end < numbers.size() && numbers[end] == numbers[end - 1] + 1;) ++end;
    if (begin > 0) out += ',';
    out += std::to_string(numbers[begin]);
    if (end > begin + 1) out += fmt::format("-{}", numbers[end - 1]);
  }
  return out;
}

std::vector<int64_t> numbers_of(const std::string& ranges) {
  std::vector<int64_t> out;
  for (size_t at = 0; at < ranges.size();) {
    size_t used = 0;
    const int64_t first = std::stoll(ranges.substr(at, 24), &used);
    at += used;
    int64_t last = first;
    if (at < ranges.size() && ranges[at] == '-') {
      last = std::stoll(ranges.substr(at + 1, 24), &used);
      at += 1 + used;
    }
    for (int64_t number = first; number <= last; ++number) out.push_back(number);
    if (at < ranges.size() && ranges[at++] != ',') throw DataError("not a list of ranges");
  }
  return out;
}

RateUnit unit_of(const std::string& name) {
  if (name == "samples") return RateUnit::samples;
  return name == "tokens" ? RateUnit::tokens : RateUnit::draws;
}

// The bucket's place in `plan`, which gets it, or the pieces that it lacks.
int place_of(const BucketPlan& bucket, const std::vector<Piece>& pieces, Plan* plan) {
  size_t i = 0;
  while (i < plan->buckets.size() && plan->buckets[i].uid != bucket.uid) ++i;
  if (i == plan->buckets.size()) plan->buckets.emplace_back(bucket.name, pieces.front().size);
  Bucket& known = plan->buckets[i];
  if (pieces.size() >= known.pieces.size()) known.pieces = pieces;
  return static_cast<int>(i);
}

BucketPlan bucket_from(const json& saved, RateUnit unit, Plan* plan) {
  BucketPlan bucket;
  saved.at("name").get_to(bucket.name);
  saved.at("source").get_to(bucket.source);
  bucket.uid = hash_name(bucket.name);
  bucket.shape = {saved.at("shape").at(0), saved.at("shape").at(1), saved.at("shape").at(2)};
  bucket.entries = numbers_of(saved.at("samples"));
  bucket.withdrawn = numbers_of(saved.at("withdrawn"));
  if (hash_of(bucket.entries) != saved.at("entries_sha256").get<std::string>())
    throw DataError(text("the plan's manifest is damaged: bucket ", bucket.name,
                         " has other entries than its checksum says"));
  std::vector<Piece> pieces;
  for (const json& piece : saved.at("pieces"))
    pieces.push_back({piece.at(0), piece.at(1), piece.at(2)});
  bucket.pieces = static_cast<int>(pieces.size());
  bucket.index = place_of(bucket, pieces, plan);
  saved.at("tokens").get_to(bucket.tokens);
  saved.at("weight").get_to(bucket.weight);
  saved.at("batch").get_to(bucket.batch);
  saved.at("passes").get_to(bucket.passes);
  saved.at("width").get_to(bucket.width);
  saved.at("block").get_to(bucket.block);
  saved.at("rate").get_to(bucket.rate);
  if (unit == RateUnit::tokens) bucket.loss_weight = static_cast<double>(bucket.tokens);
  return bucket;
}

SegmentPlan segment_from(const json& saved, RateUnit unit, Plan* plan) {
  SegmentPlan segment;
  saved.at("stage").get_to(segment.stage_name);
  saved.at("steps").get_to(segment.steps);
  saved.at("stage_step").get_to(segment.stage_step);
  saved.at("slots").get_to(segment.slots);
  saved.at("accumulate").get_to(segment.accumulate);
  saved.at("dwell").get_to(segment.dwell);
  saved.at("loss_denominator").get_to(segment.loss_denominator);
  double rates = 0;
  for (const json& bucket : saved.at("buckets")) {
    segment.buckets.push_back(bucket_from(bucket, unit, plan));
    rates += static_cast<double>(segment.buckets.back().rate);
  }
  for (BucketPlan& bucket : segment.buckets)
    bucket.probability = static_cast<double>(bucket.rate) / rates;
  return segment;
}

const char* name_of(RateUnit unit) {
  switch (unit) {
    case RateUnit::samples:
      return "samples";
    case RateUnit::tokens:
      return "tokens";
    case RateUnit::draws:
      return "draws";
  }
  return "";
}

json bucket_json(const BucketPlan& bucket, const Bucket& state, uint128 upper) {
  json pieces = json::array();
  for (int i = 0; i < bucket.pieces; ++i) {
    const Piece& piece = state.pieces[i];
    pieces.push_back({piece.first, piece.epoch, piece.size});
  }
  return {{"name", bucket.name},
          {"shape", {bucket.shape.frames, bucket.shape.height, bucket.shape.width}},
          {"samples", ranges_of(bucket.entries)},
          {"withdrawn", ranges_of(bucket.withdrawn)},
          {"uid", hex(bucket.uid)},
          {"source", bucket.source},
          {"entries", bucket.entries.size()},
          {"entries_sha256", hash_of(bucket.entries)},
          {"pieces", pieces},
          {"tokens", bucket.tokens},
          {"weight", bucket.weight},
          {"batch", bucket.batch},
          {"width", bucket.width},
          {"passes", bucket.passes},
          {"block", bucket.block},
          {"rate", bucket.rate},
          {"upper", hex(upper)}};
}

json segment_json(const Plan& plan, int ordinal) {
  const SegmentPlan& segment = plan.segments[ordinal];
  const Segment rule = segment.segment(plan.seed, ordinal);
  json buckets = json::array();
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    const BucketPlan& bucket = segment.buckets[s];
    buckets.push_back(bucket_json(bucket, plan.buckets[bucket.index], rule.upper()[s]));
  }
  return {{"ordinal", ordinal},
          {"stage", segment.stage_name},
          {"steps", segment.steps},
          {"stage_step", segment.stage_step},
          {"slots", segment.slots},
          {"accumulate", segment.accumulate},
          {"dwell", segment.dwell},
          {"buckets", buckets},
          {"loss_denominator", segment.loss_denominator}};
}

std::string shown(const json& value) {
  return value.is_structured() ? fmt::format("{} entries", value.size()) : value.dump();
}

// "segment 2 (low-res), bucket clips/9x32x32: " for the element at `index` of the list `key`.
std::string element(const std::string& key, size_t index, const json& value) {
  const auto word = [&](const char* field) -> std::string {
    return value.is_object() && value.contains(field) && value[field].is_string()
               ? value[field].get<std::string>()
               : "";
  };
  if (key == "segments") return fmt::format("segment {} ({})", index + 1, word("stage"));
  if (key == "buckets") return "bucket " + word("name");
  if (key == "sources") return "source " + word("name");
  return fmt::format("{} {}", key, index + 1);
}

std::string joined(const std::string& where, const std::string& next) {
  return where.empty() ? next : where + ", " + next;
}

// What follows from other entries is left out at first, so that the cause is named and not an
// effect.
bool is_derived(const std::string& field) {
  return field == "upper" || field == "rate" || field == "block" || field == "loss_denominator";
}

// `key` is the nearest key above the values, `where` what leads there in words.
std::string first_difference(const json& saved, const json& now, const std::string& key,
                             const std::string& where, bool causes_only) {
  if (saved == now || (causes_only && is_derived(key))) return "";
  if (saved.is_object() && now.is_object()) {
    // What names an element comes first: another bucket in its place explains all else.
    for (const char* name : {"name", "stage"}) {
      if (saved.contains(name) && now.contains(name) && saved[name] != now[name]) {
        return fmt::format("{}: {} was {}, is now {}", where, name, shown(saved[name]),
                           shown(now[name]));
      }
    }
    for (const auto& [field, value] : saved.items()) {
      if (!now.contains(field))
        return fmt::format("{} was {}, is now missing", joined(where, field), shown(value));
      const std::string found = first_difference(value, now[field], field, where, causes_only);
      if (!found.empty()) return found;
    }
    for (const auto& [field, value] : now.items()) {
      if (!saved.contains(field))
        return fmt::format("{} is new: {}", joined(where, field), shown(value));
    }
  }
  if (saved.is_array() && now.is_array()) {
    for (size_t i = 0; i < std::min(saved.size(), now.size()); ++i) {
      const std::string found = first_difference(
          saved[i], now[i], key, joined(where, element(key, i, saved[i])), causes_only);
      if (!found.empty()) return found;
    }
  }
  // Structures of one size whose parts agree differ in derived entries alone.
  if (causes_only && saved.is_structured() && now.is_structured() && saved.size() == now.size())
    return "";
  return fmt::format("{}{}{} was {}, is now {}", where, where.empty() ? "" : ": ", key,
                     shown(saved), shown(now));
}

}  // namespace

json Plan::manifest() const {
  json listed = json::array();
  for (const SourceCatalogue& source : sources) {
    listed.push_back({{"name", source.name},
                      {"digest", source.digest},
                      {"parts", source.parts.empty() ? std::vector{source.digest} : source.parts},
                      {"samples", source.samples.size()}});
  }
  json history = json::array();
  for (const PlanChange& change : changes)
    history.push_back({{"finished_steps", change.finished_steps}, {"what", change.what}});
  json parts = json::array();
  for (size_t i = 0; i < segments.size(); ++i)
    parts.push_back(segment_json(*this, static_cast<int>(i)));
  return {{"format", kFormat},
          {"seed", seed},
          {"slot", slot},
          {"weights", name_of(unit)},
          {"sources", listed},
          {"segments", parts},
          {"changes", history},
          {"options",
           {{"widths", options.widths},
            {"memory_bytes", options.memory_bytes},
            {"number_bytes", options.number_bytes},
            {"measured", options.measured},
            {"cost", to_json(options.cost)}}}};
}

std::string Plan::hash() const { return sha256(manifest().dump()); }

Plan plan_from_manifest(const json& manifest) {
  try {
    if (manifest.at("format") != kFormat)
      throw DataError(text("the plan's manifest is of format ", manifest.at("format").dump(),
                           "; this program reads ", kFormat));
    Plan plan;
    manifest.at("seed").get_to(plan.seed);
    manifest.at("slot").get_to(plan.slot);
    plan.unit = unit_of(manifest.at("weights"));
    plan.options = options_of(manifest);
    for (const json& source : manifest.at("sources")) {
      SourceCatalogue catalogue{source.at("name"), source.at("digest"), {}, {}};
      source.at("parts").get_to(catalogue.parts);
      plan.sources.push_back(std::move(catalogue));
    }
    for (const json& segment : manifest.at("segments"))
      plan.segments.push_back(segment_from(segment, plan.unit, &plan));
    for (const json& change : manifest.at("changes"))
      plan.changes.push_back({change.at("finished_steps"), change.at("what")});
    return plan;
  } catch (const json::exception& error) {
    throw DataError(text("not a plan's manifest: ", error.what()));
  } catch (const std::logic_error& error) {  // of std::stoll
    throw DataError(text("the plan's manifest is damaged: ", error.what()));
  }
}

std::string breaks(const json& saved, const json& now, int64_t finished_steps) {
  for (const char* field : {"format", "seed", "slot", "weights", "options"}) {
    if (!saved.contains(field)) return fmt::format("the saved manifest has no {}", field);
    const std::string found = first_difference(saved[field], now.at(field), field, "", true);
    if (!found.empty()) return found;
  }
  const json &before = saved.at("segments"), &after = now.at("segments");
  int64_t left = finished_steps;
  for (size_t i = 0; i < before.size() && left > 0; ++i) {
    const std::string where = element("segments", i, before[i]);
    if (i >= after.size()) return where + " is gone";
    const auto steps = before[i].at("steps").get<int64_t>();
    json expected = before[i];
    // The segment that was under way may have been cut short here, or go on to another length.
    if (left < steps || i + 1 == before.size()) expected["steps"] = after[i].at("steps");
    const std::string found = first_difference(expected, after[i], "", where, false);
    if (!found.empty()) return found;
    if (after[i].at("steps").get<int64_t>() < std::min(left, steps)) return where + " is too short";
    left -= steps;
  }
  return "";
}

std::string differs(const json& saved, const json& now) {
  // Settings of the run and its data explain what follows from them, so they are named first.
  for (const char* field :
       {"format", "seed", "slot", "weights", "options", "sources", "segments", "changes"}) {
    if (!saved.contains(field)) return fmt::format("the saved manifest has no {}", field);
    if (!now.contains(field)) return fmt::format("the new manifest has no {}", field);
    const std::string found = first_difference(saved[field], now[field], field, "", true);
    if (!found.empty()) return found;
  }
  return first_difference(saved, now, "manifest", "", false);
}

PlanOptions options_of(const json& manifest) {
  try {
    const json& saved = manifest.at("options");
    PlanOptions options;
    saved.at("widths").get_to(options.widths);
    saved.at("memory_bytes").get_to(options.memory_bytes);
    saved.at("number_bytes").get_to(options.number_bytes);
    saved.at("measured").get_to(options.measured);
    options.cost = cost_model_of(saved.at("cost"));
    return options;
  } catch (const json::exception& error) {
    throw DataError(text("not a plan's manifest: ", error.what()));
  }
}

}  // namespace pendulum
