// Brings the values of a unit's parameters from their owners to all ranks, in the background.
#pragma once
#include <array>
#include <map>
#include <vector>

#include "comm/collective_buffer.h"
#include "comm/communicator.h"
#include "comm/side_stream.h"
#include "shard/shard_layout.h"

namespace pendulum {

// Where the group has a side stream, copies and calls are queued on it at once, beside what is
// computed, and the stream that computes waits when a unit is used. Elsewhere values are written
// when they are waited for.
class UnitGather {
 public:
  // `parts` by unit; both outlive this object. Values are fp32.
  UnitGather(const std::vector<Parts>& parts, Communicator& group, at::TensorOptions options)
      : UnitGather(parts, group, options, SideStream(group).exists()) {}
  // writes_ahead: whether start() already writes the others' parts, and waits for them if the
  // group's waits are of the host.
  UnitGather(const std::vector<Parts>& parts, Communicator& group, at::TensorOptions options,
             bool writes_ahead);

  bool writes_ahead() const { return writes_ahead_; }
  bool is_under_way(size_t unit) const { return under_way_.contains(unit); }

  // Sends this rank's part, from where it is, to where the others' parts go. Collective, like all
  // calls of a group in the same order on all ranks; a unit that is under way is left alone. Until
  // finish() what is sent must not change, and with writes_ahead() nobody may read what is written,
  // whose memory is of the current stream.
  void start(size_t unit, const Flat& from, const Flat& to);
  // The others' parts are written when this has returned. start() must have been called.
  void finish(size_t unit);
  // Moves what is under way on; never waits.
  void poll();

 private:
  struct Window {
    int64_t first = 0;
    at::Tensor all{};  // (ranks, length)
    Handle handle{};
  };
  struct UnderWay {
    Flat to;
    std::vector<Window> windows;
    SideStream::Moment written;
  };
  void pass_through(size_t unit, const Flat& from, const Flat& to);
  Window send(size_t unit, const Flat& from, int64_t first, CollectiveBuffer* buffer);
  void write(size_t unit, const Flat& to, Window& window);

  const std::vector<Parts>& parts_;
  Communicator& group_;
  at::TensorOptions options_;
  const SideStream side_;
  const bool writes_ahead_;
  // Of what is written ahead: a window is on its way while the one before is written.
  std::array<CollectiveBuffer, 2> buffers_;
  int64_t buffer_bytes_ = 0;
  std::map<size_t, UnderWay> under_way_;  // by unit
};

}  // namespace pendulum
