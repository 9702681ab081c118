// A clock and the median.
#include "apps/timing.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"

namespace pendulum {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  check(!values.empty(), "at least one value");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace pendulum
