// A stream beside the one that computes, for what is queued ahead of its use.
#pragma once
#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace pendulum {

// Of a group whose calls are queued on a GPU and whose waits return at once (NCCL). Elsewhere there
// is none, and what is to run on it runs where it stands.
class SideStream {
 public:
  explicit SideStream(const Communicator& group);

  bool exists() const { return stream_ != nullptr; }

  // The end of what one run() has queued; null without a stream.
  using Moment = std::shared_ptr<void>;
  // Calls `body` with this stream as the current one, behind what the current one has been given so
  // far. Tensors that are made in it belong to this stream and end in it; those of the current
  // stream must live until that has joined.
  Moment run(const std::function<void()>& body) const;
  // What the current stream is given afterwards comes after the moment.
  void join(const Moment& moment) const;

 private:
  std::shared_ptr<void> stream_;
};

}  // namespace pendulum
