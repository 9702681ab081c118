// Which buffer is in which place, and who waits for whom.
#include "ops/host_slots.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#ifdef PENDULUM_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

#include "core/error.h"

namespace pendulum {

#ifdef PENDULUM_CUDA
struct HostSlots::Copies {
  explicit Copies(const at::Device& device)
      : stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())) {}

  // The place may be written once the current stream is done with what it has been given.
  void give(int slot) { given[slot].record(current()); }
  void copy(int slot, const at::Tensor& to, const at::Tensor& from) {
    given[slot].block(stream);
    const c10::cuda::CUDAStreamGuard guard(stream);
    to.copy_(from, /*non_blocking=*/true);
    copied[slot].record(stream);
  }
  void join(int slot) { copied[slot].block(current()); }
  c10::cuda::CUDAStream current() const {
    return c10::cuda::getCurrentCUDAStream(stream.device_index());
  }

  // Torch's own pinned memory comes in powers of two, up to twice what is wanted.
  static at::Tensor pinned(const at::Tensor& bytes) {
    void* memory = nullptr;
    C10_CUDA_CHECK(cudaHostAlloc(&memory, bytes.nbytes(), cudaHostAllocDefault));
    const at::Tensor out = at::from_blob(
        memory, bytes.sizes(), [](void* block) { C10_CUDA_IGNORE_ERROR(cudaFreeHost(block)); },
        bytes.options());
    return at::Tensor(out).copy_(bytes);
  }

  c10::cuda::CUDAStream stream;
  std::array<at::cuda::CUDAEvent, 2> given, copied;
};
#else
struct HostSlots::Copies {
  explicit Copies(const at::Device& device) {
    check(false, "a build with CUDA for buffers on ", device);
  }
  void give(int /*slot*/) {}
  void copy(int /*slot*/, const at::Tensor& /*to*/, const at::Tensor& /*from*/) {}
  void join(int /*slot*/) {}
  static at::Tensor pinned(const at::Tensor& bytes) { return bytes; }
};
#endif

HostSlots::HostSlots(std::vector<at::Tensor> buffers, at::Device device)
    : buffers_(std::move(buffers)) {
  if (!device.is_cpu()) {
    copies_ = std::make_unique<Copies>(device);
    for (at::Tensor& buffer : buffers_) buffer = Copies::pinned(buffer);
  }
  for (at::Tensor& slot : slots_) {
    slot = at::empty(buffers_.front().sizes(), buffers_.front().options().device(device));
#ifdef PENDULUM_CUDA
    if (copies_) slot.record_stream(copies_->stream.unwrap());
#endif
  }
  for (int slot = 0; copies_ && slot < 2; ++slot) copies_->give(slot);
}

HostSlots::~HostSlots() = default;

at::Tensor HostSlots::acquire(int buffer, int next) {
  make_room(buffer, next);
  start_copy(buffer);
  const int slot = slot_of(buffer);
  if (copies_) copies_->join(slot);
  if (next != kNone) start_copy(next);
  return slots_[slot];
}

void HostSlots::fetch(int buffer) {
  make_room(buffer, kNone);
  start_copy(buffer);
}

void HostSlots::release(int buffer) {
  const int slot = slot_of(buffer);
  if (slot == kNone) return;
  if (copies_) copies_->give(slot);
  holds_[slot] = kNone;
}

std::vector<int> HostSlots::resident() const {
  std::vector<int> here;
  for (const int buffer : holds_) {
    if (buffer != kNone) here.push_back(buffer);
  }
  std::sort(here.begin(), here.end());
  return here;
}

int HostSlots::slot_of(int buffer) const {
  const auto found = std::find(holds_.begin(), holds_.end(), buffer);
  return found == holds_.end() ? kNone : static_cast<int>(found - holds_.begin());
}

void HostSlots::make_room(int buffer, int next) {
  for (const int held : holds_) {
    if (held != kNone && held != buffer && held != next) release(held);
  }
}

void HostSlots::start_copy(int buffer) {
  if (slot_of(buffer) != kNone) return;
  const int slot = slot_of(kNone);
  check(slot != kNone, "a free place for buffer ", buffer);
  holds_[slot] = buffer;
  if (copies_) {
    copies_->copy(slot, slots_[slot], buffers_.at(buffer));
  } else {
    slots_[slot].copy_(buffers_.at(buffer));
  }
}

}  // namespace pendulum
