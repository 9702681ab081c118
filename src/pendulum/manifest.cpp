// The plan frozen as JSON, its hash, and the difference of two such manifests in words.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "pendulum/plan.h"

namespace pendulum {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;

std::string hex(uint128 value) {
  const auto high = static_cast<uint64_t>(value >> 64), low = static_cast<uint64_t>(value);
  return high ? fmt::format("{:x}{:016x}", high, low) : fmt::format("{:x}", low);
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

std::string hash_of(const std::vector<int64_t>& entries) {
  std::string decimal;
  for (const int64_t entry : entries) decimal += std::to_string(entry) + "\n";
  return sha256(decimal);
}

json bucket_json(const BucketPlan& bucket, const Bucket& state, uint128 upper) {
  json pieces = json::array();
  for (const Piece& piece : state.pieces) pieces.push_back({piece.first, piece.epoch, piece.size});
  return {{"name", bucket.name},
          {"uid", hex(bucket.uid)},
          {"source", bucket.source},
          {"entries", bucket.entries.size()},
          {"entries_sha256", hash_of(bucket.entries)},
          {"pieces", pieces},
          {"tokens", bucket.tokens},
          {"weight", bucket.weight},
          {"batch", bucket.batch},
          {"width", bucket.width},
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
    listed.push_back(
        {{"name", source.name}, {"digest", source.digest}, {"samples", source.samples.size()}});
  }
  json parts = json::array();
  for (size_t i = 0; i < segments.size(); ++i)
    parts.push_back(segment_json(*this, static_cast<int>(i)));
  return {{"format", kFormat},
          {"seed", seed},
          {"slot", slot},
          {"weights", name_of(unit)},
          {"sources", listed},
          {"segments", parts},
          {"options",
           {{"widths", options.widths},
            {"device_flops", options.device_flops},
            {"memory_bytes", options.memory_bytes},
            {"flops_per_byte", options.flops_per_byte},
            {"number_bytes", options.number_bytes}}}};
}

std::string Plan::hash() const { return sha256(manifest().dump()); }

std::string differs(const json& saved, const json& now) {
  // Settings of the run and its data explain what follows from them, so they are named first.
  for (const char* field :
       {"format", "seed", "slot", "weights", "options", "sources", "segments"}) {
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
    saved.at("device_flops").get_to(options.device_flops);
    saved.at("memory_bytes").get_to(options.memory_bytes);
    saved.at("flops_per_byte").get_to(options.flops_per_byte);
    saved.at("number_bytes").get_to(options.number_bytes);
    return options;
  } catch (const json::exception& error) {
    throw DataError(text("not a plan's manifest: ", error.what()));
  }
}

}  // namespace pendulum
