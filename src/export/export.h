// The folder that leaves a run: a diffusers transformer and all else that `pendulum sample` needs.
//   transformer/     config.json and diffusion_pytorch_model.safetensors, or shards of it with
//                    their index, for from_pretrained; of a pair the expert for high noise, and
//   transformer_2/   that for low
//   vae/             the codec's weights, for from_pretrained; only of a codec that has some
//   text_encoder/    weights (umt5: a link to them) and, with minilm, the vocabulary
//   tokenizer/       umt5: its tokenizer
//   image_encoder/   of image-to-video models that attend to their first frame; with
//                    image_processor/
//   model_index.json, scheduler/   where diffusers has a pipeline for the model
//                    (pipeline_folder.h), which then loads the folder as a whole
//   pendulum.json    codec, encoders, prediction, solver, training
//   README.md        model card
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "export/trained_model.h"

namespace pendulum {

// As diffusers splits weights by itself.
inline constexpr uint64_t kShardBytes = 10'000'000'000;

// Writes `model` to `folder`, reloads it from there, compares every tensor and a clip drawn with
// both bit by bit (reload_check.h), and only then gives the folder its name: what exists under that
// name is whole.
// dtype: float or bfloat16. shard_bytes: of a file of weights, at most. An existing folder is
// replaced only with `is_forced`, and only if it is an export; ConfigError else.
void write_export(const TrainedModel& model, const std::string& folder, at::ScalarType dtype,
                  bool is_forced, uint64_t shard_bytes = kShardBytes);

// True where the folder holds a pendulum.json of this kind.
bool is_export(const std::string& folder);

// Everything for drawing clips. DataError naming the file and what is wrong with it.
TrainedModel load_export(const std::string& folder);

}  // namespace pendulum
