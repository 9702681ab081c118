// Tensors of a forward pass that wait in host memory for the backward pass.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <vector>

namespace pendulum {

// From a GPU the copies go to pinned memory and back on a stream of their own, beside what is
// computed. On a CPU they are plain copies: nothing is gained, the path is the same. One thread
// uses it.
class HostStore {
 public:
  HostStore();
  ~HostStore();
  HostStore(const HostStore&) = delete;
  HostStore& operator=(const HostStore&) = delete;

  // Begins to copy; the store keeps nothing on the tensor's device. Returns its place: 0, 1, ...
  size_t put(const at::Tensor& tensor);
  // The tensor on its device again, once; later work of the current stream waits for it. What was
  // put before it is sent for: a backward pass takes in the opposite order.
  at::Tensor take(size_t place);

  // Of those put, how many are on the device now and not yet taken.
  int fetched() const;

 private:
  struct Entry {
    at::Tensor host;    // until it is fetched
    at::Tensor device;  // fetched, or on its way
    at::TensorOptions options{};
  };
  void fetch(Entry& entry);

  std::vector<Entry> entries_;
  struct Copies;  // the stream and its events
  std::unique_ptr<Copies> copies_;
};

}  // namespace pendulum
