// The ranks that share a sequence, in two directions: Ulysses exchanges tokens for heads inside
// blocks of neighbours, the ring passes keys and values between the blocks.
#pragma once
#include <cstdint>
#include <memory>

#include "comm/collective_buffer.h"
#include "comm/communicator.h"

namespace pendulum {

// Tokens of the whole sequence that stand in places 0..first+count-1.
inline int64_t tokens_within(int64_t tokens, int64_t first, int64_t count) {
  const int64_t left = tokens - first;
  return left < 0 ? 0 : left < count ? left : count;
}

// The largest divisor of `width` that also divides `heads`: the Ulysses part that costs the least
// traffic; the ring takes the rest.
int ulysses_part(int width, int64_t heads);

class SequenceGroup {
 public:
  // `members` in the order of the tokens, outliving the group; `ulysses` ranks each exchange heads.
  // ConfigError where it does not divide the group's size. Collective.
  SequenceGroup(Communicator& members, int ulysses);

  int width() const { return members_.size(); }
  int rank() const { return members_.rank(); }
  Communicator& members() const { return members_; }
  Communicator& ulysses() const { return *ulysses_; }  // U neighbours
  Communicator& ring() const { return *ring_; }        // R blocks of neighbours

  // What the Ulysses ranks send and receive where it is copied at both ends anyway. Within one
  // function: the next exchange takes it again.
  struct ExchangeMemory {
    explicit ExchangeMemory(Communicator& ranks)
        : sent(ranks, CallKind::all_to_all), received(ranks, CallKind::all_to_all) {}
    CollectiveBuffer sent, received;
  };
  ExchangeMemory& exchange_memory() { return *exchange_memory_; }

  // Every rank holds the same number of tokens, the last ones partly or wholly padding.
  int64_t tokens_per_rank(int64_t tokens) const { return (tokens + width() - 1) / width(); }

  // Bytes that this rank has sent through attention.
  struct Traffic {
    int64_t ulysses = 0;
    int64_t ring = 0;
  };
  const Traffic& traffic() const { return traffic_; }
  Traffic& traffic() { return traffic_; }

 private:
  Communicator& members_;
  std::unique_ptr<Communicator> ulysses_, ring_;
  std::unique_ptr<ExchangeMemory> exchange_memory_;
  Traffic traffic_;
};

}  // namespace pendulum
