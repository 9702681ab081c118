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
  transformer->to(at::Device(at::kCUDA, 0));
  transformer->set_compute(at::kBFloat16);
}

Generator TrainedModel::generator() const {
  const VideoTransformer* network = transformer.get();
  return {[network](const at::Tensor& x, const at::Tensor& time, const at::Tensor& states) {
            return network->forward(x, time, states);
          },
          network->parameters().front().second.device(),
          *codec,
          *text_encoder,
          architecture.patch,
          generate_settings(generate, objective)};
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
