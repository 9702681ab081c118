// Splits a group's ranks into blocks of neighbours and the rings across them.
#include "attention/sequence_group.h"

#include <numeric>

#include "core/error.h"

namespace pendulum {

int ulysses_part(int width, int64_t heads) {
  check(width >= 1 && heads >= 1, "at least one rank and one head, found ", width, " and ", heads);
  return static_cast<int>(std::gcd(static_cast<int64_t>(width), heads));
}

SequenceGroup::SequenceGroup(Communicator& members, int ulysses) : members_(members) {
  if (ulysses < 1 || members.size() % ulysses != 0) {
    throw ConfigError(text("a Ulysses part of ", ulysses, " does not divide the ", members.size(),
                           " ranks that share a sequence"));
  }
  ulysses_ = members.split(members.rank() / ulysses, members.rank());
  ring_ = members.split(members.rank() % ulysses, members.rank());
  exchange_memory_ = std::make_unique<ExchangeMemory>(*ulysses_);
}

}  // namespace pendulum
