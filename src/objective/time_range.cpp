// Whole distributions by their own draw; parts of them by inverting the distribution function.
#include "objective/time_range.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "objective/flow_matching.h"

namespace pendulum {
namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// The time before the shift that it bends to t.
double unshifted(double t, double shift) { return t / (shift - (shift - 1) * t); }

// Of the standard normal distribution, in the tail that keeps its digits.
double below_normal(double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; }

// The point between z1 and z2 that has the share u of the normal distribution there below it. The
// tails are alike, so it is looked for on the side where shares near zero are exact.
double normal_between(double z1, double z2, double u) {
  if (z1 > 0) return -normal_between(-z2, -z1, 1 - u);
  constexpr double kFar = 37;  // beyond it the tail has no number left
  if (z2 < -kFar) return z2;
  const double wanted = below_normal(z1) + u * (below_normal(z2) - below_normal(z1));
  double low = std::max(z1, -kFar), high = std::min(z2, kFar);
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (below_normal(middle) < wanted ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

double draw_time(const ObjectiveConfig& objective, double shift, uint64_t bits) {
  const double first = objective.time_range[0], last = objective.time_range[1];
  const bool is_uniform = objective.timestep == "uniform";
  if (first == 0 && last == 1) {
    const double raw =
        is_uniform ? uniform(bits) : logistic(objective.mean + objective.std * normal(bits));
    return shift_time(raw, shift);
  }
  const double low = unshifted(first, shift), high = unshifted(last, shift);
  if (is_uniform) return shift_time(low + uniform(bits) * (high - low), shift);
  const auto normal_of = [&](double raw) {
    return (std::log(raw / (1 - raw)) - objective.mean) / objective.std;
  };
  const double z = normal_between(normal_of(low), normal_of(high), uniform(bits));
  const double t = shift_time(logistic(objective.mean + objective.std * z), shift);
  return std::clamp(t, first, last);  // against rounding
}

}  // namespace pendulum
