// Normal numbers in a tensor.
#include "ops/random_tensor.h"

#include <ATen/ATen.h>

#include "core/random.h"

namespace pendulum {

at::Tensor random_tensor(at::IntArrayRef shape, uint64_t key, at::ScalarType type) {
  at::Tensor out = at::empty(shape, at::kFloat);
  fill_normal(out.mutable_data_ptr<float>(), out.numel(), splitmix64(key));
  return out.to(type);
}

}  // namespace pendulum
