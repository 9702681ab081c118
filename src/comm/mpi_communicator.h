// MPI for the length of the program, and the group of all its processes.
#pragma once
#include <memory>

#include "comm/communicator.h"

namespace pendulum {

// Starts MPI (threads call it in turns: SERIALIZED) and ends it. Works under mpirun, under srun
// --mpi=pmix, and alone as a group of one; a run that no launcher started need not pay for MPI and
// takes single_communicator().
//
// When an exception passes, the destructor leaves MPI as it is: ending it would wait for peers that
// wait for us. The process must then end with another exit code than 0, upon which the launcher
// ends the others.
class MpiWorld {
 public:
  // checked: compare kind, type and count between the ranks before each call, at the price of one
  // small reduction.
  explicit MpiWorld(bool checked = true);
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  Communicator& world() { return *world_; }  // CPU tensors

 private:
  int exceptions_at_start_;
  std::unique_ptr<Communicator> world_;
};

}  // namespace pendulum
