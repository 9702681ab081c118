// A file of low-rank adapters in the layouts that other programs load beside the base model.
#pragma once
#include <string>

#include "export/trained_model.h"
#include "model/weight_layout.h"

namespace pendulum {

// Writes the adapters of a model that was trained with them as `folder`/<name>.safetensors, with a
// README.md and a training.json that says which log they follow from, reads the file back and
// compares every bit before it gets its name.
//   diffusers: pytorch_lora_weights.safetensors with PEFT's names behind "transformer." and rank,
//   alpha and layers in the metadata, as WanPipeline.load_lora_weights reads it.
//   original: <run>.safetensors as ComfyUI reads it: "diffusion_model." and the original layer
//   names, lora_down, lora_up and alpha.
// ConfigError where the model has no adapters or the folder holds other things; is_forced replaces
// earlier files. Returns the file's path.
std::string write_adapter(const TrainedModel& model, const std::string& folder, WeightLayout layout,
                          at::ScalarType dtype, bool is_forced);

}  // namespace pendulum
