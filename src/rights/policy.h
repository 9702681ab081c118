// Which samples may be trained on: those whose licence the run allows by name and whose record
// passes its policy, and no others.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "rights/date.h"
#include "rights/expression.h"
#include "rights/record.h"

namespace pendulum {

struct Verdict {
  bool allowed = false;
  std::string reason;  // one line for people; with `allowed` the licence that let it in
  std::string rule;    // of a denial: what it failed, the same for all that fail it
};

// Denials by rule, and as one line for each, commonest first: "  12 denied by rights.allow\n".
using Denials = std::map<std::string, int64_t>;
std::string describe(const Denials& denials);

class Policy {
 public:
  // as_of: the day against which expiries are held. ConfigError where an entry of rights.allow is
  // not an identifier or rights.policy cannot be read.
  Policy(const RightsConfig& config, Date as_of);

  // Denied unless licence, holder and basis are all given, the licence is on the list, letter for
  // letter, and the expression is true of the record; what the record does not say is not true.
  // Denied in any case: what has expired on as_of. Denied unless the expression itself speaks of
  // it: what is editorial only, and what its owner does not allow for generative training.
  Verdict judge(const RightsRecord& record) const;

  Date as_of() const { return as_of_; }

 private:
  std::vector<std::string> allow_;
  std::optional<Expression> expression_;
  Date as_of_;
};

}  // namespace pendulum
