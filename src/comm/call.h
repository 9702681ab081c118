// One collective call, as the caller states it and as the implementations carry it out.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace pendulum {

enum class Reduce { sum, max, min };

enum class CallKind {
  all_reduce,
  all_gather,
  reduce_scatter,
  all_to_all,
  send_recv,
  broadcast,
  barrier,
  split
};

inline constexpr int kNobody = -1;  // the peer of a rank that only sends or only receives

struct Call {
  CallKind kind = CallKind::barrier;
  uint64_t sequence = 0;  // counts the calls of one communicator
  at::Tensor
      send;  // contiguous; undefined where nothing is sent. In place for all_reduce and broadcast:
  at::Tensor receive;  // send and receive are then the same tensor
  Reduce reduce = Reduce::sum;
  int to = kNobody;    // send_recv
  int from = kNobody;  // send_recv; the root of a broadcast

  std::string name() const;         // "all_reduce #12"
  std::string description() const;  // "all_reduce #12 of 40 x Float (sum)"
  // What must be equal on all ranks, in a number: kind, sequence, reduction, root, and, but for
  // send_recv, type and count.
  uint64_t signature() const;
};

// The numbers of a contiguous tensor that belong to one rank of `parts`, a view.
at::Tensor part_of(const at::Tensor& whole, int index, int parts);

// "rank 1 of 4 in world, all_reduce #12 of 40 x Float (sum): what"
std::string call_failure(int rank, int size, const std::string& group, const Call& call,
                         const std::string& what);

}  // namespace pendulum
