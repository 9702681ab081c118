// Collectives on CUDA tensors by NCCL. Only in builds with PENDULUM_CUDA.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#include <optional>

#include "comm/communicator.h"

namespace pendulum {

class Watchdog;

// `control` carries CPU tensors, barriers and NCCL's own start, and outlives what is returned; each
// of its ranks has a GPU of its own, `device`. Collective.
//
// All calls of a process, in whichever group, are queued on one stream in the order in which they
// are made, after what is queued on the caller's stream (the current one, if none is given). A wait
// makes the current stream wait, which is that of the tensors' memory, and returns at once; the
// watchdog ends the process where a call does not finish in time or NCCL reports an error, after
// aborting NCCL. Reductions are an exchange of parts, a sum in the order of the ranks
// (comm/reduction.h) and a gather: the same bits as over MPI. What each rank has called is compared
// at every barrier and split. Gathers and exchanges of what lies in the group's own memory
// (comm/collective_buffer.h) NCCL makes from registered windows where it offers them
// (comm/nccl_windows.h).
std::unique_ptr<Communicator> nccl_communicator(Communicator& control, at::Device device,
                                                Watchdog& watchdog);

// The process's stream for what stands before and behind calls that are made ahead of their use;
// none where `group` is not of NCCL.
std::optional<c10::cuda::CUDAStream> side_stream_of(const Communicator& group);

}  // namespace pendulum
