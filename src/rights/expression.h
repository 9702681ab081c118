// The language of rights.policy: what a record must say to be trained on.
//
//   licence in [CC0-1.0, LicenseRef-acme] and not editorial_only
//     and (releases.model in [yes, not-needed] or basis == "contract 12") and expiry > as_of + 365d
//
//   either      := both {"or" both}                both := opposite {"and" opposite}
//   opposite    := "not" opposite | "(" either ")" | test
//   test        := field [("==" | "!=" | "<" | "<=" | ">" | ">=") value | ["not"] "in" list]
//                | "territory" "includes" (value | list)
//   list        := "[" value {"," value} "]"       value := "text" | word | day ["+"|"-" number
//   "d"]
//
// A day is 2027-03-31, `as_of` or `never`. Fields: licence, holder, basis (texts), expiry (a day),
// releases.model, releases.property (yes, no, not-needed), editorial_only (alone, or == true), and
// consent.ai_generative_training with the other CAWG entries (allowed, notAllowed, constrained).
#pragma once
#include <memory>
#include <string>

#include "rights/date.h"
#include "rights/record.h"

namespace pendulum {

// Kleene's three values: what a record does not say is unknown, and unknown is not a yes.
enum class Truth { no, unknown, yes };

struct Judgement {
  Truth truth = Truth::unknown;
  std::string reason;  // unless yes: which test failed, in words, with what the record says
  std::string rule;    // unless yes: the test as the policy has it, the same for all records
};

class Expression {
 public:
  // `key` names the configuration's key in errors. ConfigError "key, column 14: ..." with what was
  // found, what was expected and the nearest name.
  Expression(const std::string& source, const std::string& key);

  Judgement judge(const RightsRecord& record, Date as_of) const;
  // Whether a field takes part, "consent" standing for all of its entries.
  bool mentions(const std::string& field) const;

  struct Node;  // of the parsed tree; `not` is moved down to the tests

 private:
  std::shared_ptr<const Node> root_;
};

}  // namespace pendulum
