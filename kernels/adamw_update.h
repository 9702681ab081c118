// AdamW's arithmetic on one element, the same for every way in which moments are kept.
#pragma once
#include <cmath>

#include "kernels/adamw.h"
#include "kernels/host_device.h"

namespace pendulum::kernels {

// What an element's update needs of the step.
template <class T>
struct AdamWFactors {
  T scale, beta1, rest1, beta2, rest2, move, root, eps, pull;
  double rate;
};

template <class T>
AdamWFactors<T> factors_of(const AdamWStep& step, double scale) {
  const double correction1 = 1 - std::pow(step.beta1, static_cast<double>(step.step));
  const double correction2 = 1 - std::pow(step.beta2, static_cast<double>(step.step));
  return {static_cast<T>(scale),
          static_cast<T>(step.beta1),
          static_cast<T>(1 - step.beta1),
          static_cast<T>(step.beta2),
          static_cast<T>(1 - step.beta2),
          static_cast<T>(step.rate / correction1),
          static_cast<T>(1 / std::sqrt(correction2)),
          static_cast<T>(step.eps),
          static_cast<T>(1 - step.average_decay),
          step.rate};
}

// What weight decay leaves of a parameter.
template <class T>
PENDULUM_HOST_DEVICE inline T share_kept(double decay, const AdamWFactors<T>& f) {
  return static_cast<T>(1 - f.rate * decay);
}

template <class T>
PENDULUM_HOST_DEVICE inline void update(T& parameter, T gradient, T& first, T& second, T keep,
                                        const AdamWFactors<T>& f) {
  const T g = gradient * f.scale;
  first = f.beta1 * first + f.rest1 * g;
  second = f.beta2 * second + f.rest2 * g * g;
  parameter = parameter * keep - f.move * first / (std::sqrt(second) * f.root + f.eps);
}

}  // namespace pendulum::kernels
