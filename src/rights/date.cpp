// Days of the Gregorian calendar to text and back.
#include "rights/date.h"

#include <fmt/format.h>

#include <chrono>

namespace pendulum {
namespace {

using namespace std::chrono;

// Digits alone, so that neither signs nor blanks slip in.
std::optional<int> number(const std::string& words, size_t begin, size_t count) {
  int out = 0;
  for (size_t i = begin; i < begin + count; ++i) {
    if (words[i] < '0' || words[i] > '9') return std::nullopt;
    out = 10 * out + (words[i] - '0');
  }
  return out;
}

}  // namespace

std::optional<Date> parse_date(const std::string& words) {
  if (words.size() != 10 || words[4] != '-' || words[7] != '-') return std::nullopt;
  const auto y = number(words, 0, 4), m = number(words, 5, 2), d = number(words, 8, 2);
  if (!y || !m || !d) return std::nullopt;
  const year_month_day day{year(*y), month(static_cast<unsigned>(*m)),
                           std::chrono::day(static_cast<unsigned>(*d))};
  if (!day.ok()) return std::nullopt;
  return Date{sys_days(day).time_since_epoch().count()};
}

std::string print(Date date) {
  if (date == kNever) return "never";
  const year_month_day day{sys_days(days(date.days))};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(day.year()),
                     static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()));
}

Date utc_today() { return {floor<days>(system_clock::now()).time_since_epoch().count()}; }

}  // namespace pendulum
