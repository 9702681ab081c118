// Before a distributed run trains: its way of sharing a sample gives what one process gives.
#pragma once
#include <ATen/core/Tensor.h>

#include "attention/slot_groups.h"
#include "model/activation_checkpoint.h"
#include "model/config.h"

namespace pendulum {

// One small layer with the model's head size and the run's activation checkpointing, forward and
// backward, at every width that the run uses, compared on each process with the same layer on that
// process alone. A padded sequence is among the cases. Error names width, tensor and both
// differences; wrong results would train silently, as other programs have. Takes a second or two;
// nothing at width 1. Collective.
void check_parity(const SlotGroups& groups, const WanConfig& model, at::Device device,
                  at::ScalarType compute_type, ActivationCheckpointing checkpointing);

}  // namespace pendulum
