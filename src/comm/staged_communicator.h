// Collectives through copies on another device: CUDA tensors through the host's memory for
// processes that share a GPU, which NCCL refuses; tests send CPU tensors through a GPU.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "comm/communicator.h"

namespace pendulum {

// `inner` carries tensors of `device` and outlives what is returned. Every call waits for the
// tensors that it sends, copies them there, and copies the result back when it is waited for:
// right, and as slow as that sounds.
std::unique_ptr<Communicator> staged_communicator(Communicator& inner, at::Device device);

}  // namespace pendulum
