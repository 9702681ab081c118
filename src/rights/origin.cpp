// Collecting and judging origins.
#include "rights/origin.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pendulum {
namespace {

// The package that `text.weights: auto` means; its LICENSE file and model card say so.
const OriginConfig kMiniLm{.licence = "Apache-2.0",
                           .holder = "sentence-transformers (all-MiniLM-L6-v2)",
                           .basis = "licence of the published package",
                           .expiry = "never"};

Origin part(const Config& config, const std::string& name, const std::string& what) {
  Origin origin{.part = name, .what = what, .declared = {}, .denied = {}};
  const auto found = config.rights.origins.find(name);
  if (found == config.rights.origins.end()) return origin;
  origin.is_declared = true;
  origin.declared = found->second;
  return origin;
}

Origin model_of(const Config& config) {
  const bool is_fresh = config.model.import.empty();
  Origin origin =
      part(config, "model", is_fresh ? "fresh weights" : "weights from " + config.model.import);
  origin.is_own = is_fresh;
  return origin;
}

Origin codec_of(const Config& config) {
  Origin origin = part(config, "codec", config.codec.kind);
  origin.is_own = config.codec.kind == "haar";  // a fixed transform without weights
  return origin;
}

Origin text_of(const Config& config) {
  Origin origin = part(config, "text", config.text.kind);
  const bool is_known = config.text.kind == "minilm" && config.text.weights == "auto";
  if (!origin.is_declared && is_known) {
    origin.is_declared = true;
    origin.declared = kMiniLm;
  }
  return origin;
}

// Of image-to-video models alone.
void add_image(const Config& config, std::vector<Origin>& origins) {
  if (config.image.kind != "none") origins.push_back(part(config, "image", config.image.kind));
}

RightsRecord record_of(const OriginConfig& declared, const std::string& name) {
  RightsRecord record{declared.licence, declared.holder, declared.basis};
  if (declared.expiry.empty()) return record;
  record.terms.expiry = declared.expiry == "never" ? kNever : parse_date(declared.expiry);
  if (!record.terms.expiry) {
    throw ConfigError(
        text("rights.origins.", name, ".expiry: ", declared.expiry, " is no day of the calendar"));
  }
  return record;
}

// By the expression for origins alone, or as a sample would be.
std::string denial(const RightsConfig& config, const RightsRecord& record, Date as_of) {
  if (config.origin_policy.empty()) {
    const Verdict verdict = Policy(config, as_of).judge(record);
    return verdict.allowed ? "" : verdict.reason;
  }
  if (record.terms.expiry && *record.terms.expiry < as_of)
    return text("expires ", print(*record.terms.expiry), ", before ", print(as_of), " (as_of)");
  return Expression(config.origin_policy, "rights.origin_policy").judge(record, as_of).reason;
}

[[noreturn]] void refuse(const Origin& origin) {
  if (!origin.is_declared) {
    throw ConfigError(text("rights.licensed_only: nothing is declared of where the ", origin.part,
                           " comes from (", origin.what, "); write rights.origins.", origin.part,
                           ": {licence: ..., holder: ..., basis: ...}"));
  }
  throw ConfigError(text("rights.licensed_only: the ", origin.part, " (", origin.what,
                         ") may not be used: ", origin.denied,
                         ". Origins are judged as samples are, or by rights.origin_policy"));
}

}  // namespace

std::vector<Origin> judge_origins(const Config& config, Date as_of) {
  std::vector<Origin> origins{model_of(config), codec_of(config), text_of(config)};
  add_image(config, origins);
  for (Origin& origin : origins) {
    if (origin.is_own) continue;
    if (origin.is_declared)
      origin.denied = denial(config.rights, record_of(origin.declared, origin.part), as_of);
    const bool is_refused = !origin.is_declared || !origin.denied.empty();
    if (config.rights.licensed_only && is_refused) refuse(origin);
  }
  return origins;
}

std::string describe(const Origin& origin) {
  const std::string name = text(origin.part, " (", origin.what, "): ");
  if (origin.is_own) return name + "this program's own";
  if (!origin.is_declared) return name + "undeclared";
  const OriginConfig& d = origin.declared;
  return text(name, d.licence, ", held by ", d.holder, ", ", d.basis,
              origin.denied.empty() ? "" : "; denied by the policy: " + origin.denied);
}

nlohmann::json to_json(const Origin& origin) {
  nlohmann::json out{{"part", origin.part}, {"what", origin.what}};
  if (origin.is_own) out["own"] = true;
  if (!origin.is_declared) return out;
  out["licence"] = origin.declared.licence;
  out["holder"] = origin.declared.holder;
  out["basis"] = origin.declared.basis;
  if (!origin.declared.expiry.empty()) out["expiry"] = origin.declared.expiry;
  if (!origin.denied.empty()) out["denied"] = origin.denied;
  return out;
}

Origin origin_from_json(const nlohmann::json& object, const std::string& where) {
  try {
    Origin origin{
        .part = object.at("part"), .what = object.at("what"), .declared = {}, .denied = {}};
    origin.is_own = object.value("own", false);
    origin.is_declared = object.contains("licence");
    if (!origin.is_declared) return origin;
    origin.declared = {object.at("licence"), object.at("holder"), object.at("basis"),
                       object.value("expiry", "")};
    origin.denied = object.value("denied", "");
    return origin;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(text(where, ": not an origin: ", error.what()));
  }
}

}  // namespace pendulum
