// A clock, the median, and random inputs.
#include "apps/timing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "core/random.h"

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

at::Tensor random_tensor(at::IntArrayRef sizes, uint64_t key) {
  at::Tensor x = at::empty(sizes, at::kFloat);
  fill_normal(x.data_ptr<float>(), x.numel(), key);
  return x;
}

}  // namespace pendulum
