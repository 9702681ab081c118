// Terms from and to JSON.
#include "rights/record.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "config/nearest.h"
#include "core/error.h"

namespace pendulum {
namespace {

using nlohmann::json;

std::string one_of(const json& value, const std::vector<std::string>& words, const std::string& key,
                   const std::string& where) {
  if (value.is_string() && std::find(words.begin(), words.end(), value) != words.end())
    return value.get<std::string>();
  const std::string hint = value.is_string() ? did_you_mean(value.get<std::string>(), words) : "";
  throw DataError(
      text(where, ": \"", key, "\" is ", value.dump(), hint, " (valid: ", listed(words), ")"));
}

Date read_expiry(const json& value, const std::string& where) {
  if (value == "never") return kNever;
  const auto date = value.is_string() ? parse_date(value.get<std::string>()) : std::nullopt;
  if (!date)
    throw DataError(text(where, ": \"expiry\" is ", value.dump(),
                         "; it must be a day as 2027-03-31, the last one, or \"never\""));
  return *date;
}

std::vector<std::string> read_territory(const json& value, const std::string& where) {
  const json list = value.is_array() ? value : json::array({value});
  std::vector<std::string> out;
  for (const json& place : list) {
    const std::string word = place.is_string() ? place.get<std::string>() : "";
    const bool is_code = word.size() == 2 && std::isupper(static_cast<unsigned char>(word[0])) &&
                         std::isupper(static_cast<unsigned char>(word[1]));
    if (!is_code && word != "worldwide")
      throw DataError(text(where, ": \"territory\" holds ", place.dump(),
                           "; it must be \"worldwide\" or two-letter country codes as \"DE\""));
    out.push_back(word);
  }
  return out;
}

void read_releases(const json& value, const std::string& where, RightsTerms& terms) {
  if (!value.is_object())
    throw DataError(text(where, ": \"releases\" must be an object with model and property, found ",
                         value.dump()));
  for (const auto& [key, word] : value.items()) {
    one_of(json(key), {"model", "property"}, "releases", where);
    (key == "model" ? terms.model_release : terms.property_release) =
        one_of(word, kReleaseWords, "releases." + key, where);
  }
}

// "cawg.ai_training", "c2pa.ai_training" or "ai_training".
std::string entry_name(const std::string& key, const std::string& where) {
  std::string name = key;
  for (const char* prefix : {"cawg.", "c2pa."}) {
    if (key.starts_with(prefix)) name = key.substr(5);
  }
  return one_of(json(name), kConsentEntries, "consent", where);
}

std::map<std::string, std::string> read_consent(const json& value, const std::string& where) {
  const json& entries = value.is_object() && value.contains("entries") ? value["entries"] : value;
  if (!entries.is_object())
    throw DataError(
        text(where, ": \"consent\" must be an object of CAWG entries, found ", value.dump()));
  std::map<std::string, std::string> out;
  for (const auto& [key, entry] : entries.items()) {
    const std::string name = entry_name(key, where);
    const bool is_object = entry.is_object();
    const json use = is_object ? entry.value("use", json()) : entry;
    std::string word = one_of(use, kConsentWords, "consent." + name, where);
    // In the assertion's own form a constraint that is not told forbids.
    if (is_object && word == "constrained" && !entry.contains("constraint_info"))
      word = "notAllowed";
    if (!out.emplace(name, word).second)
      throw DataError(text(where, ": \"consent\" gives ", name, " twice"));
  }
  return out;
}

}  // namespace

const std::vector<std::string>& term_keys() {
  static const std::vector<std::string> keys = {"expiry", "territory", "releases", "editorial_only",
                                                "consent"};
  return keys;
}

RightsTerms terms_from_json(const json& object, const std::string& where) {
  RightsTerms terms;
  if (object.contains("expiry")) terms.expiry = read_expiry(object["expiry"], where);
  if (object.contains("territory")) terms.territory = read_territory(object["territory"], where);
  if (object.contains("releases")) read_releases(object["releases"], where, terms);
  if (object.contains("editorial_only")) {
    const json& value = object["editorial_only"];
    if (!value.is_boolean())
      throw DataError(
          text(where, ": \"editorial_only\" must be true or false, found ", value.dump()));
    terms.editorial_only = value.get<bool>();
  }
  if (object.contains("consent")) terms.consent = read_consent(object["consent"], where);
  return terms;
}

void add_terms(const RightsTerms& terms, json& object) {
  if (terms.expiry) object["expiry"] = print(*terms.expiry);
  if (!terms.territory.empty()) object["territory"] = terms.territory;
  if (!terms.model_release.empty()) object["releases"]["model"] = terms.model_release;
  if (!terms.property_release.empty()) object["releases"]["property"] = terms.property_release;
  if (terms.editorial_only) object["editorial_only"] = *terms.editorial_only;
  if (!terms.consent.empty()) object["consent"] = terms.consent;
}

}  // namespace pendulum
