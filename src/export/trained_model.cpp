// Devices, shapes and weights of a trained model.
#include "export/trained_model.h"

#include <ATen/ATen.h>

#include <filesystem>

#include "core/error.h"
#include "export/export.h"
#include "model/pretrained.h"

namespace pendulum {

void TrainedModel::to(const std::string& device) {
  if (device != "cpu" && device != "cuda" && device != "auto") {
    throw ConfigError(text("device '", device, "' is not known: cpu, cuda or auto"));
  }
  if (device == "cuda" && !at::hasCUDA())
    throw ConfigError("device cuda: this machine or this build has no CUDA");
  if (device == "cpu" || !at::hasCUDA()) return;
  for (VideoTransformer* each : {transformer.get(), pair.other.get()}) {
    if (each == nullptr) continue;
    each->to(at::Device(at::kCUDA, 0));
    each->set_compute(at::kBFloat16);
  }
}

namespace {

Network network_of(const TrainedModel& model) {
  const Pair& pair = model.pair;
  if (pair.trained == Expert::none) return network_of(*model.transformer);
  if (!pair.other) {
    throw ConfigError(text("run ", model.provenance.run, " trained the ", expert_name(pair.trained),
                           "-noise expert alone, and model.import names one file: a pipeline's "
                           "folder with both is needed to draw"));
  }
  const bool is_high = pair.trained == Expert::high;
  return network_of_pair(is_high ? *model.transformer : *pair.other,
                         is_high ? *pair.other : *model.transformer, pair.boundary);
}

}  // namespace

Generator TrainedModel::generator() const {
  return {network_of(*this),
          transformer->device(),
          *codec,
          *text_encoder,
          architecture.patch,
          generate_settings(generate, objective),
          {first_frame, *codec, image_encoder.get()}};
}

void TrainedModel::check_shape(const Shape& wanted) const {
  const int temporal = codec->temporal();
  if (wanted.frames < 1 || (wanted.frames - 1) % temporal != 0) {
    throw ConfigError(text(wanted.frames, " frames: the codec takes ", temporal, "k + 1, such as ",
                           temporal + 1));
  }
  const int height = codec->spatial() * architecture.patch[1];
  const int width = codec->spatial() * architecture.patch[2];
  if (wanted.height < 1 || wanted.width < 1 || wanted.height % height != 0 ||
      wanted.width % width != 0) {
    throw ConfigError(text("size ", wanted.height, "x", wanted.width,
                           ": height and width must be multiples of ", height, " and ", width));
  }
}

std::unique_ptr<VideoTransformer> load_transformer(const WanConfig& config,
                                                   const std::string& path) {
  const PretrainedTransformer found = PretrainedTransformer::open(path);
  auto transformer = std::make_unique<VideoTransformer>(config, std::nullopt);
  found.load_into(*transformer);
  return transformer;
}

TrainedModel open_model(const std::string& path, bool is_raw) {
  if (!std::filesystem::is_directory(path))
    throw ConfigError(text(path, ": there is no such folder"));
  if (!is_export(path)) return load_checkpoint_model(path, is_raw);
  TrainedModel model = load_export(path);
  if (is_raw && model.provenance.weights != "raw") {
    throw ConfigError(text(
        path,
        ": this export holds the moving average alone; export the checkpoint again with --raw"));
  }
  return model;
}

}  // namespace pendulum
