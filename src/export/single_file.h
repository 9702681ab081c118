// A transformer as one file in the original layout, which ComfyUI loads.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "export/trained_model.h"

namespace pendulum {

// Writes `folder`/<run>.safetensors and a README.md, reloads the file, compares every tensor bit by
// bit and the architecture that follows from the shapes alone, as the reader will see it, and only
// then gives it its name. ConfigError where what ComfyUI assumes of a Wan model does not hold
// (heads of 128, Wan's codec and text encoder, a prediction of the velocity, one time per sample),
// or a file is there and not is_forced. Returns the file's path.
std::string write_single_file(const TrainedModel& model, const std::string& folder,
                              at::ScalarType dtype, bool is_forced);

}  // namespace pendulum
