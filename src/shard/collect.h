// Brings the tensors of a group's ranks to the first of them.
#pragma once
#include <string>

#include "comm/communicator.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// On rank 0 copies on the CPU of its own tensors and then of the other ranks', one by one; of a
// name that several ranks hold, the first rank's. Empty elsewhere. Collective.
NamedTensors collect_on_first(const NamedTensors& mine, Communicator& group);

// The words of rank `from` on all. Collective.
std::string told_by(int from, const std::string& mine, Communicator& group);

}  // namespace pendulum
