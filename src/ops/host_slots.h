// Buffers that wait in host memory and take turns in two places on a device.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <vector>

namespace pendulum {

// On a GPU copies come from pinned memory on a stream of their own, beside what is computed, into
// two places that are allocated once: memory that a caching allocator gave back and took anew would
// be as many buffers as the host is ahead of the device. On a CPU copies are plain; the path is the
// same. One thread at a time uses it.
class HostSlots {
 public:
  static constexpr int kNone = -1;

  // Takes over the buffers, (bytes) uint8 on the CPU and of one length.
  HostSlots(std::vector<at::Tensor> buffers, at::Device device);
  ~HostSlots();
  HostSlots(const HostSlots&) = delete;
  HostSlots& operator=(const HostSlots&) = delete;

  // The buffer on the device, until it is released; later work of the current stream waits for it.
  // `next` (kNone: nothing) is sent for meanwhile. Others lose their places.
  at::Tensor acquire(int buffer, int next);
  // Sends for it ahead of its use.
  void fetch(int buffer);
  // What the current stream has been given so far is the last to read it.
  void release(int buffer);

  // Those on the device or on their way, in rising order: at most two.
  std::vector<int> resident() const;
  // The buffers again, in host memory.
  const std::vector<at::Tensor>& buffers() const { return buffers_; }

 private:
  int slot_of(int buffer) const;
  void make_room(int buffer, int next);
  void start_copy(int buffer);

  std::vector<at::Tensor> buffers_;
  std::array<at::Tensor, 2> slots_;
  std::array<int, 2> holds_{kNone, kNone};  // by slot: which buffer
  struct Copies;                            // the stream and its events
  std::unique_ptr<Copies> copies_;
};

}  // namespace pendulum
