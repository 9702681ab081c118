// The day on which tests judge rights.
#pragma once
#include "rights/date.h"

namespace pendulum {

inline const Date kToday = *parse_date("2026-11-24");

}  // namespace pendulum
