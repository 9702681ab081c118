// Whether an export is the model that was trained: every weight, and a clip drawn with both.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "export/trained_model.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// A transformer's parameters on the CPU as an export of this type holds them.
NamedTensors stored_tensors(const VideoTransformer& transformer, at::ScalarType dtype);

// DataError naming `folder` and the first tensor that is not to the bit what `written` has, rounded
// to `dtype`; or, where weights are the same, saying that two steps of the solver from fixed noise,
// for a fixed caption and, if the model takes one, a fixed first frame, come to another latent or
// decode to other frames. Both clips are drawn on the CPU in fp32. scratch: a folder for the first
// frame's file, which is gone afterwards.
void check_reloaded(const TrainedModel& written, TrainedModel& reloaded, at::ScalarType dtype,
                    const std::string& folder, const std::string& scratch);

}  // namespace pendulum
