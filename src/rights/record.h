// What a sample's owner has said about it, as data sets carry it and policies judge it.
#pragma once
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "rights/date.h"

namespace pendulum {

// Terms beyond licence, holder and basis. What was not said is empty, and never passes a policy
// that asks for it.
struct RightsTerms {
  std::optional<Date> expiry;          // the last day on which it may be trained on
  std::vector<std::string> territory;  // ISO 3166 country codes, or "worldwide"
  std::string model_release;           // of people shown: yes, no, not-needed
  std::string property_release;        // of things shown: the same
  std::optional<bool> editorial_only;
  // CAWG Training and Data Mining assertion 1.1, by entry without its prefix
  // ("ai_generative_training"): allowed, notAllowed, constrained.
  std::map<std::string, std::string> consent;

  bool operator==(const RightsTerms&) const = default;
};

struct RightsRecord {
  std::string licence;  // one SPDX identifier, or LicenseRef-... for a licence of one's own
  std::string holder;   // who owns it
  std::string basis;    // why it may be used: a contract, a purchase, the address of the licence
  RightsTerms terms{};

  bool operator==(const RightsRecord&) const = default;
};

// The keys of terms in a manifest's line: expiry, territory, releases, editorial_only, consent.
const std::vector<std::string>& term_keys();

// Reads them from an object that may hold other keys too; DataError "where: ..." for a form or a
// word that is none of the documented ones. Consent is a map from entries to words, or the CAWG
// assertion itself ({"entries": {"cawg.ai_training": {"use": "allowed"}}}); prefixes cawg. and
// c2pa. mean the same, and `constrained` without constraint_info is notAllowed, as the assertion's
// specification says.
RightsTerms terms_from_json(const nlohmann::json& object, const std::string& where);

// Adds what is known to an object; the inverse of terms_from_json.
void add_terms(const RightsTerms& terms, nlohmann::json& object);

// The words that a release and a consent signal may be.
inline const std::vector<std::string> kReleaseWords = {"yes", "no", "not-needed"};
inline const std::vector<std::string> kConsentWords = {"allowed", "notAllowed", "constrained"};
inline const std::vector<std::string> kConsentEntries = {"ai_generative_training", "ai_training",
                                                         "ai_inference", "data_mining"};

}  // namespace pendulum
