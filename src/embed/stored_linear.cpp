// Slices of rows.
#include "embed/stored_linear.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace pendulum {
namespace {

// Elements that are converted at once: 4 MB of fp32, which stay in a core's cache until they are
// multiplied.
constexpr int64_t kSlice = 1 << 20;

}  // namespace

at::Tensor stored_linear(const at::Tensor& x, const at::Tensor& weight) {
  if (weight.scalar_type() == at::kFloat) return at::mm(x, weight.t());
  const int64_t rows = weight.size(0);
  const int64_t slice = std::clamp<int64_t>(kSlice / weight.size(1), 1, rows);
  at::Tensor out = at::empty({x.size(0), rows}, x.options());
  for (int64_t begin = 0; begin < rows; begin += slice) {
    const int64_t count = std::min(slice, rows - begin);
    at::Tensor part = out.narrow(1, begin, count);
    at::mm_out(part, x, weight.narrow(0, begin, count).to(at::kFloat).t());
  }
  return out;
}

}  // namespace pendulum
