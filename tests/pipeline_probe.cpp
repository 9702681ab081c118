// Exports a small random model and draws with it, for tests/oracle/pipeline_oracle.py:
//   pipeline_probe KIND DTYPE TEXT VAE IMAGE FIRST SHIFT OUT
// KIND: none, channels or first-latent, how it is given first frames; with "+pair" two transformers
// share the times, of which the one for low noise was trained. TEXT, VAE: weights of umt5
// and of the codec wan; IMAGE: of clip, or "-". FIRST: a picture that clips begin with, or "-".
// SHIFT: of the solver's times, or auto. OUT/model: the export; OUT/drawn.safetensors: "noise" and,
// for guidance 1 and 3, "latent.<guidance>" and "frames.<guidance>" of a clip drawn with it.
#include <ATen/ATen.h>

#include <cstdio>

#include "core/error.h"
#include "core/random.h"
#include "export/export.h"
#include "safetensors/safetensors.h"
#include "tiny_model.h"

namespace pendulum {
namespace {

// As the oracle has them.
constexpr char kPrompt[] = "a red circle moves to the left on a blue background";
constexpr uint64_t kSeed = 5;
constexpr Shape kShape{9, 32, 48};
constexpr int kSteps = 4, kLength = 24, kLengthBesideImages = 512;

struct Arguments {
  std::string kind, dtype, text, vae, image, first, shift, out;
};

TrainedModel random_model(Arguments given) {
  const std::string pair = "+pair";
  const bool is_pair = given.kind.ends_with(pair);
  if (is_pair) given.kind.resize(given.kind.size() - pair.size());
  TrainedModel model =
      tiny_model(21, "velocity", {.kind = "wan", .weights = given.vae, .device = "cpu"});
  model.text_config = {.kind = "umt5",
                       .weights = given.text,
                       .length = given.image == "-" ? kLength : kLengthBesideImages};
  model.text_encoder = make_text_encoder(model.text_config, model.text_config.weights);
  WanConfig& config = model.architecture;
  config.text_dim = model.text_encoder->dim();
  if (given.kind == "first-latent") model.first_frame = FirstFrame::latent;
  if (given.kind == "channels") {
    model.first_frame = FirstFrame::channels;
    config.in_channels += model.codec->temporal() + model.codec->channels();
  }
  if (given.image != "-") {
    model.image_config = {.kind = "clip", .weights = given.image};
    model.image_encoder = std::make_unique<ClipImageEncoder>(model.image_config);
    config.image_dim = model.image_encoder->dim();
  }
  model.transformer = std::make_unique<VideoTransformer>(config, 22);
  randomise(model.transformer->parameters(), 22);
  if (is_pair) {
    model.pair = {Expert::low, 0.6, std::make_unique<VideoTransformer>(config, 23)};
    randomise(model.pair.other->parameters(), 23);
  }
  model.generate.solver = "euler";
  model.generate.steps = kSteps;
  if (given.shift != "auto") model.generate.shift = std::stod(given.shift);
  model.shape = kShape;
  return model;
}

at::Tensor noise_of(const TrainedModel& model) {
  const LatentShape grid = model.codec->latent_shape(kShape);
  at::Tensor noise = at::empty({1, model.codec->channels(), grid.frames, grid.height, grid.width});
  fill_normal(noise.data_ptr<float>(), noise.numel(), draw(Purpose::generate, kSeed));
  return noise;
}

at::Tensor as_tensor(const Frames& frames) {
  return at::tensor(at::ArrayRef<uint8_t>(frames.rgb), at::kByte)
      .view({frames.count, frames.height, frames.width, 3});
}

void probe(const Arguments& given) {
  const std::string folder = given.out + "/model";
  write_export(random_model(given), folder, given.dtype == "bf16" ? at::kBFloat16 : at::kFloat,
               false);
  TrainedModel model = load_export(folder);
  NamedTensors drawn{{"noise", noise_of(model)}};
  for (const int guidance : {1, 3}) {
    model.generate.guidance = guidance;
    const Prompt prompt{kPrompt, kSeed, given.first == "-" ? "" : given.first};
    const at::Tensor latent = model.generator().generate_latents({prompt}, kShape);
    drawn.emplace_back(text("latent.", guidance), latent);
    drawn.emplace_back(text("frames.", guidance), as_tensor(model.codec->decode(latent[0])));
  }
  write_safetensors(given.out + "/drawn.safetensors", drawn);
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  if (argc != 9) {
    std::fputs("usage: pipeline_probe KIND DTYPE TEXT VAE IMAGE FIRST SHIFT OUT\n", stderr);
    return 2;
  }
  pendulum::probe({argv[1], argv[2], argv[3], argv[4], argv[5], argv[6], argv[7], argv[8]});
  return 0;
}
