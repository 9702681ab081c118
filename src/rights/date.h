// Calendar days, as rights records give them: "2026-11-24".
#pragma once
#include <compare>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace pendulum {

struct Date {
  int64_t days = 0;  // since 1970-01-01
  auto operator<=>(const Date&) const = default;
};

// Later than every day of the calendar: what "never" stands for.
inline constexpr Date kNever{std::numeric_limits<int32_t>::max()};

// YYYY-MM-DD and nothing else; nothing for days that the calendar has not, such as 2027-02-29.
std::optional<Date> parse_date(const std::string& words);
std::string print(Date date);  // "never" for kNever

// The day it is now in UTC. For `apps/`, which freezes it: all else is told the day.
Date utc_today();

}  // namespace pendulum
