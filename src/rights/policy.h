// Which samples may be trained on: those whose licence the run allows by name, and no others.
#pragma once
#include <string>
#include <vector>

#include "config/config.h"

namespace pendulum {

// What a sample's owner has said about it.
struct RightsRecord {
  std::string licence;  // one SPDX identifier, or LicenseRef-... for a licence of one's own
  std::string holder;   // who owns it
  std::string basis;    // why it may be used: a contract, a purchase, the address of the licence
};

struct Verdict {
  bool allowed = false;
  std::string reason;  // one line for people; with `allowed` the licence that let it in
};

class Policy {
 public:
  // ConfigError where an entry of rights.allow is not an identifier.
  explicit Policy(const RightsConfig& config);

  // Denied unless licence, holder and basis are all given and the licence is on the list, letter
  // for letter.
  Verdict judge(const RightsRecord& record) const;

 private:
  std::vector<std::string> allow_;
};

}  // namespace pendulum
