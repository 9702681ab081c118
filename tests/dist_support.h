// What a test under mpirun gets from its main: the group of all ranks.
#pragma once
#include "comm/communicator.h"

namespace pendulum {

Communicator& test_world();

}  // namespace pendulum
