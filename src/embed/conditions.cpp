// Every tensor of the conditions treated alike.
#include "embed/conditions.h"

#include <ATen/ATen.h>

namespace pendulum {

Conditions Conditions::map(const std::function<at::Tensor(const at::Tensor&)>& change) const {
  const auto changed = [&](const at::Tensor& x) { return x.defined() ? change(x) : x; };
  return {changed(text), changed(start), changed(image)};
}

Conditions Conditions::to(at::Device device) const {
  return map([&](const at::Tensor& x) { return x.to(device); });
}

Conditions stack(const std::vector<Conditions>& samples) {
  const auto all = [&](at::Tensor Conditions::*part) {
    std::vector<at::Tensor> parts;
    for (const Conditions& sample : samples) parts.push_back(sample.*part);
    return parts.front().defined() ? at::stack(parts) : at::Tensor();
  };
  return {all(&Conditions::text), all(&Conditions::start), all(&Conditions::image)};
}

Conditions cat(const Conditions& a, const Conditions& b) {
  const auto both = [](const at::Tensor& x, const at::Tensor& y) {
    return x.defined() ? at::cat({x, y}) : x;
  };
  return {both(a.text, b.text), both(a.start, b.start), both(a.image, b.image)};
}

}  // namespace pendulum
