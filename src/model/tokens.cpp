// Patches, rotation angles and time codes.
#include "model/tokens.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"

namespace pendulum {

at::Tensor to_patches(const at::Tensor& latents, std::array<int, 3> patch) {
  const auto s = latents.sizes();
  const auto [t, h, w] = patch;
  check(s.size() == 5 && s[2] % t == 0 && s[3] % h == 0 && s[4] % w == 0,
        "latents (B, C, F, H, W) in whole patches of ", t, "x", h, "x", w, ", found ", s);
  return latents.view({s[0], s[1], s[2] / t, t, s[3] / h, h, s[4] / w, w})
      .permute({0, 2, 4, 6, 1, 3, 5, 7})
      .reshape({s[0], s[2] / t * (s[3] / h) * (s[4] / w), s[1] * t * h * w});
}

at::Tensor from_patches(const at::Tensor& patches, const Grid& grid, std::array<int, 3> patch) {
  const auto [t, h, w] = patch;
  const int64_t batch = patches.size(0);
  const int64_t channels = patches.size(2) / (static_cast<int64_t>(t) * h * w);
  return patches.view({batch, grid[0], grid[1], grid[2], t, h, w, channels})
      .permute({0, 7, 1, 4, 2, 5, 3, 6})
      .reshape({batch, channels, grid[0] * t, grid[1] * h, grid[2] * w});
}

// The axes' own tables, a few numbers each, go to the device and are spread over the tokens there.
RotaryTables rotary_tables(const Grid& grid, int64_t head_dim, const at::TensorOptions& options) {
  const int64_t side = 2 * (head_dim / 6);
  const std::array<int64_t, 3> elements{head_dim - 2 * side, side, side};
  const auto wide = at::TensorOptions(at::kDouble);
  std::vector<at::Tensor> cosines;
  std::vector<at::Tensor> sines;
  for (size_t axis = 0; axis < 3; ++axis) {
    const at::Tensor exponent =
        at::arange(0, elements[axis], 2, wide) / static_cast<double>(elements[axis]);
    const at::Tensor angles =
        at::outer(at::arange(0, grid[axis], wide), at::pow(10000.0, exponent).reciprocal());
    std::vector<int64_t> shape{1, 1, 1, -1};
    shape[axis] = grid[axis];
    const auto spread = [&](const at::Tensor& values) {
      return values.to(at::kFloat).to(options).view(shape).expand({grid[0], grid[1], grid[2], -1});
    };
    cosines.push_back(spread(angles.cos()));
    sines.push_back(spread(angles.sin()));
  }
  return {at::cat(cosines, -1).flatten(0, 2), at::cat(sines, -1).flatten(0, 2)};
}

at::Tensor time_code(const at::Tensor& time, int64_t dim) {
  const int64_t half = dim / 2;
  const at::Tensor exponent =
      at::arange(0, half, time.options().dtype(at::kFloat)) * -std::log(10000.0) / half;
  const at::Tensor angles = at::outer(time.to(at::kFloat), exponent.exp());
  return at::cat({angles.cos(), angles.sin()}, -1);
}

}  // namespace pendulum
