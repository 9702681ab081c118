// What a run's plan was made with and keeps to its end: the day against which expiries are held and
// the deny-list of its start. What is denied later is withdrawn from the plan, not left out of it.
#pragma once
#include <string>

#include "config/config.h"
#include "rights/date.h"
#include "rights/deny_list.h"

namespace pendulum {

inline constexpr const char* kRightsFile = "rights.json";  // in a run's folder

struct FrozenRights {
  Date as_of;
  DenyList denied;
};

// From the configuration and its deny files as they are now. ConfigError for a day that the
// calendar has not, or a deny file that cannot be read.
FrozenRights freeze_rights(const RightsConfig& config, Date today);

// As the file rights.json of a run: the same bytes for the same content. DataError naming the file.
std::string print(const FrozenRights& rights);
FrozenRights read_frozen_rights(const std::string& path);

}  // namespace pendulum
