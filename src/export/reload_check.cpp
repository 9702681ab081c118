// Draws the same clip twice.
#include "export/reload_check.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <filesystem>

#include "core/error.h"
#include "core/random.h"
#include "generate/clip_files.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr char kCaption[] = "a red circle moves to the left";
constexpr uint64_t kSeed = 1;
constexpr int kSteps = 2;
constexpr double kGuidance = 2, kShift = 3;

// Codecs may compute in bf16 or on a GPU, where two runs need not give the same bits.
std::unique_ptr<Codec> codec_on_cpu(CodecConfig config) {
  config.device = "cpu";
  config.precision = "fp32";
  return make_codec(config);
}

std::unique_ptr<VideoTransformer> as_stored(const VideoTransformer& transformer,
                                            at::ScalarType dtype) {
  auto out = std::make_unique<VideoTransformer>(transformer.config(), std::nullopt);
  const at::NoGradGuard no_grad;
  const NamedTensors stored = stored_tensors(transformer, dtype);
  for (size_t i = 0; i < stored.size(); ++i)
    at::Tensor(out->parameters()[i].second).copy_(stored[i].second);
  return out;
}

// The model that a reader of the export is to get, from everything but the export.
TrainedModel as_stored(const TrainedModel& model, at::ScalarType dtype) {
  TrainedModel out;
  out.architecture = model.architecture;
  out.transformer = as_stored(*model.transformer, dtype);
  out.pair = {model.pair.trained, model.pair.boundary,
              model.pair.other ? as_stored(*model.pair.other, dtype) : nullptr};
  out.codec_config = model.codec_config;
  out.text_config = model.text_config;
  out.text_encoder = make_text_encoder(out.text_config, out.text_config.weights);
  out.image_config = model.image_config;
  out.image_encoder = make_image_encoder(out.image_config);
  out.first_frame = model.first_frame;
  out.objective = model.objective;
  return out;
}

// Two latent frames of two tokens to a side.
Shape fixed_shape(const TrainedModel& model) {
  const auto& patch = model.architecture.patch;
  return {(2 * patch[0] - 1) * model.codec->temporal() + 1, 2 * patch[1] * model.codec->spatial(),
          2 * patch[2] * model.codec->spatial()};
}

// Noise of bytes, as a file.
std::string write_first_frame(const Shape& shape, const std::string& folder) {
  Frames frame(1, shape.height, shape.width);
  for (size_t i = 0; i < frame.rgb.size(); ++i) frame.rgb[i] = draw(Purpose::generate, i) & 255;
  const std::string path = (fs::path(folder) / "first_frame.png").string();
  write_clip(path, frame, 1);
  return path;
}

struct FixedClip {
  at::Tensor latent;  // (C, F, h, w)
  Frames frames;
};

FixedClip fixed_clip(TrainedModel& model, const std::string& first_frame) {
  model.codec = codec_on_cpu(model.codec_config);
  model.generate.solver = "euler";
  model.generate.steps = kSteps;
  model.generate.guidance = kGuidance;
  model.generate.shift = kShift;
  FixedClip clip;
  clip.latent =
      model.generator().generate_latents({{kCaption, kSeed, first_frame}}, fixed_shape(model))[0];
  clip.frames = model.codec->decode(clip.latent);
  return clip;
}

void compare_weights(const VideoTransformer& expected, const VideoTransformer& found,
                     const std::string& folder) {
  const NamedTensors& wanted = expected.parameters();
  const NamedTensors& read = found.parameters();
  check(wanted.size() == read.size(), "as many tensors as were written", read.size(), " of ",
        wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (read[i].first != wanted[i].first || !read[i].second.equal(wanted[i].second)) {
      throw DataError(
          text(folder, ": ", wanted[i].first, " was read back differently than it was written"));
    }
  }
}

}  // namespace

NamedTensors stored_tensors(const VideoTransformer& transformer, at::ScalarType dtype) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : transformer.parameters())
    tensors.emplace_back(name, tensor.detach().to(at::kCPU, dtype));
  return tensors;
}

void check_reloaded(const TrainedModel& written, TrainedModel& reloaded, at::ScalarType dtype,
                    const std::string& folder, const std::string& scratch) {
  TrainedModel expected = as_stored(written, dtype);
  compare_weights(*expected.transformer, *reloaded.transformer, folder);
  if (expected.pair.other)
    compare_weights(*expected.pair.other, *reloaded.pair.other, folder + ", the other expert");
  const std::string first_frame = written.first_frame == FirstFrame::none
                                      ? ""
                                      : write_first_frame(fixed_shape(written), scratch);
  const FixedClip wanted = fixed_clip(expected, first_frame);
  const FixedClip found = fixed_clip(reloaded, first_frame);
  if (!first_frame.empty()) fs::remove(first_frame);
  if (!found.latent.equal(wanted.latent)) {
    throw DataError(
        text(folder,
             ": the reloaded model draws another latent than the trained one; a part of "
             "it is not what it was in training"));
  }
  if (found.frames.rgb != wanted.frames.rgb)
    throw DataError(text(folder, ": the reloaded codec decodes to other frames"));
}

}  // namespace pendulum
