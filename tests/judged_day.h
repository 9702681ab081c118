// The day on which tests judge rights.
#pragma once
#include "rights/date.h"
#include "rights/frozen.h"

namespace pendulum {

inline const Date kToday = *parse_date("2026-11-24");
// Of a run that began on it and took nothing back.
inline const FrozenRights kRights{kToday, {}};

}  // namespace pendulum
