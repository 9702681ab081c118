// Views of the group's memory, or tensors like all others.
#include "comm/collective_buffer.h"

#include <ATen/ATen.h>

#include <functional>
#include <numeric>

#include "core/error.h"

namespace pendulum {

void CollectiveBuffer::reserve(int64_t bytes, at::Device device) {
  if (is_refused_ || bytes == 0) return;
  check(!memory_ || memory_->bytes().device() == device, "one device for a buffer, found ", device);
  if (memory_ && memory_->bytes().numel() >= bytes) return;
  memory_ = group_.memory_for(kind_, bytes, device, std::move(memory_));
  is_refused_ = !memory_;
}

at::Tensor CollectiveBuffer::take(at::IntArrayRef sizes, at::TensorOptions options) {
  const int64_t numbers =
      std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
  reserve(numbers * static_cast<int64_t>(options.dtype().itemsize()), options.device());
  if (!memory_) return at::empty(sizes, options);
  at::Tensor view = at::empty({0}, options).set_(memory_->bytes().storage(), 0, sizes);
  // As at::empty() does it, for those who want to see reads of what was never written.
  const at::Context& context = at::globalContext();
  if (context.deterministicAlgorithms() && context.deterministicFillUninitializedMemory() &&
      view.is_floating_point())
    view.fill_(std::numeric_limits<double>::quiet_NaN());
  return view;
}

}  // namespace pendulum
