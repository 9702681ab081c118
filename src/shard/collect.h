// Brings the tensors of a group's ranks to the first of them.
#pragma once
#include "comm/communicator.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// On rank 0 its own tensors as they are and then those of the other ranks, one by one, as copies on
// the CPU; of a name that several ranks hold, the first rank's. Empty elsewhere. Collective.
NamedTensors collect_on_first(const NamedTensors& mine, Communicator& group);

}  // namespace pendulum
