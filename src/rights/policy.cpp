// Default deny, with reasons that help to correct a record.
#include "rights/policy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <numeric>

#include "core/error.h"

namespace pendulum {
namespace {

bool is_blank(const std::string& words) {
  return std::all_of(words.begin(), words.end(), [](unsigned char c) { return std::isspace(c); });
}

// Letters, digits, '.', '-' and a closing '+': the alphabet of SPDX identifiers and LicenseRefs.
bool is_identifier(const std::string& words) {
  if (words.empty() || words == "LicenseRef-") return false;
  return std::all_of(words.begin(), words.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '+';
  });
}

std::string lower(std::string words) {
  for (char& c : words) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return words;
}

// Edits that turn one text into the other.
int distance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int corner = row[0];
    row[0] = static_cast<int>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, corner + (a[i] != b[j])});
      corner = above;
    }
  }
  return row.back();
}

// The allowed identifier that was probably meant: another case, up to two wrong letters, or a
// version left out.
std::string nearest(const std::string& licence, const std::vector<std::string>& allow) {
  const std::string given = lower(licence);
  std::string best;
  int least = 3;
  for (const std::string& id : allow) {
    const std::string known = lower(id);
    const bool shortened = given.size() >= 3 && known.starts_with(given + "-");
    const int edits = shortened ? 2 : distance(given, known);
    if (edits < least && edits * 3 <= static_cast<int>(known.size())) {
      least = edits;
      best = id;
    }
  }
  return best;
}

// Why a licence that is not on the list is not.
std::string unlisted(const std::string& licence, const std::vector<std::string>& allow) {
  if (allow.empty())
    return fmt::format("licence '{}' is not allowed: rights.allow is empty", licence);
  const std::string meant = nearest(licence, allow);
  if (!meant.empty())
    return fmt::format("licence '{}' is not in rights.allow; did you mean {}?", licence, meant);
  if (!is_identifier(licence)) {
    return fmt::format("licence '{}' is not a single identifier; rights.allow has {}", licence,
                       fmt::join(allow, ", "));
  }
  return fmt::format("licence '{}' is not in rights.allow, which has {}", licence,
                     fmt::join(allow, ", "));
}

}  // namespace

std::string describe(const Denials& denials) {
  std::vector<std::pair<std::string, int64_t>> order(denials.begin(), denials.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string out;
  for (const auto& [rule, count] : order) out += fmt::format("  {} denied by {}\n", count, rule);
  return out;
}

Policy::Policy(const RightsConfig& config, Date as_of) : allow_(config.allow), as_of_(as_of) {
  for (const std::string& id : allow_) {
    if (is_identifier(id)) continue;
    throw ConfigError(
        text("rights.allow: '", id,
             "' is not a licence identifier; write one SPDX id per entry, such as CC-BY-4.0, "
             "or LicenseRef- and a name of your own"));
  }
  if (!config.policy.empty()) expression_.emplace(config.policy, "rights.policy");
}

Verdict Policy::judge(const RightsRecord& record) const {
  std::vector<std::string> missing;
  if (is_blank(record.licence)) missing.push_back("licence");
  if (is_blank(record.holder)) missing.push_back("holder");
  if (is_blank(record.basis)) missing.push_back("basis");
  if (!missing.empty())
    return {false, fmt::format("the record names no {}", fmt::join(missing, ", no ")),
            "licence, holder and basis are given"};
  if (std::find(allow_.begin(), allow_.end(), record.licence) == allow_.end())
    return {false, unlisted(record.licence, allow_), "rights.allow"};
  const auto is_told = [&](const char* field) {
    return expression_ && expression_->mentions(field);
  };
  const RightsTerms& terms = record.terms;
  if (terms.expiry && *terms.expiry < as_of_) {
    return {false,
            fmt::format("expires {}, before {} (as_of)", print(*terms.expiry), print(as_of_)),
            "expiry >= as_of"};
  }
  if (terms.editorial_only.value_or(false) && !is_told("editorial_only"))
    return {false, "it is for editorial use only", "not editorial_only"};
  const auto consent = terms.consent.find("ai_generative_training");
  if (consent != terms.consent.end() && consent->second != "allowed" && !is_told("consent")) {
    return {false, fmt::format("its owner says {} for generative training", consent->second),
            "consent.ai_generative_training == allowed"};
  }
  if (!expression_) return {true, record.licence, ""};
  const Judgement judgement = expression_->judge(record, as_of_);
  if (judgement.truth == Truth::yes) return {true, record.licence, ""};
  return {false, judgement.reason, judgement.rule};
}

}  // namespace pendulum
