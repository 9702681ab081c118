// Checks what a reader will assume, renames, writes, reads back.
#include "export/single_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <filesystem>

#include "core/error.h"
#include "core/publish.h"
#include "model/diffusers_config.h"
#include "model/pretrained.h"
#include "model/weight_layout.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr int kAssumedHeadDim = 128;

constexpr char kSingleFileCard[] = R"(# {run}

A Wan video transformer trained by pendulum: run `{run}`, {step} optimiser steps, last stage `{stage}`, {weights}.

In ComfyUI: put `{file}` into `models/diffusion_models`, beside Wan's VAE in `models/vae` and UMT5-XXL in `models/text_encoders`.
Trained with clips of {shape} (frames x height x width), {fps} frames per second; time shift {shift}.
Which data the run consumed is proven by its consumption log, whose head is `{head}`.
)";

void require(bool holds, const TrainedModel& model, const std::string& what) {
  if (holds) return;
  throw ConfigError(text("run ", model.provenance.run, ": ComfyUI cannot run this model, ", what,
                         "; --format diffusers writes it"));
}

void require_what_readers_assume(const TrainedModel& model) {
  require(model.architecture.head_dim == kAssumedHeadDim, model,
          text("for it takes heads of 128 elements and these have ", model.architecture.head_dim));
  require(model.codec_config.kind == "wan", model,
          text("for its latents are of the codec ", model.codec_config.kind, ", not of Wan's"));
  require(model.text_config.kind == "umt5", model,
          text("for it attends to the text encoder ", model.text_config.kind, ", not to UMT5"));
  require(model.objective.predict == "velocity", model, "for it predicts the clean latent");
}

void compare(const NamedTensors& written, const WanConfig& config, const std::string& path,
             const std::string& name) {
  const PretrainedTransformer found = PretrainedTransformer::open(path);
  if (diffusers_config(found.config()) != diffusers_config(config))
    throw DataError(text(name, ": the shapes read back are another architecture's"));
  VideoTransformer model(config, std::nullopt);
  found.load_into(model);
  for (size_t i = 0; i < written.size(); ++i) {
    if (!model.parameters()[i].second.equal(written[i].second.to(at::kFloat))) {
      throw DataError(
          text(name, ": ", written[i].first, " was read back differently than it was written"));
    }
  }
}

}  // namespace

std::string write_single_file(const TrainedModel& model, const std::string& folder,
                              at::ScalarType dtype, bool is_forced) {
  require_what_readers_assume(model);
  const std::string file = model.provenance.run + ".safetensors";
  const fs::path place = fs::absolute(folder).lexically_normal();
  const std::string path = (place / file).string();
  if (fs::exists(path) && !is_forced)
    throw ConfigError(text(path, ": exists; --force replaces it"));
  NamedTensors tensors;
  for (const auto& [name, tensor] : model.transformer->parameters()) {
    tensors.emplace_back(name_in({WeightLayout::original, ""}, name),
                         tensor.detach().to(at::kCPU, dtype));
  }
  fs::create_directories(place);
  publish_file(path, [&](const std::string& temporary) {
    write_safetensors(temporary, tensors, {{"format", "pt"}});
    compare(tensors, model.architecture, temporary, path);
  });
  using fmt::arg;
  const Provenance& training = model.provenance;
  publish_text(
      (place / "README.md").string(),
      fmt::format(kSingleFileCard, arg("run", training.run), arg("step", training.step),
                  arg("stage", training.stage), arg("file", file),
                  arg("weights", training.weights_words()), arg("shape", model.shape.name()),
                  arg("fps", model.generate.fps),
                  arg("shift", model.generate.shift ? fmt::format("{}", *model.generate.shift)
                                                    : std::string("by resolution")),
                  arg("head", training.head_words())));
  return path;
}

}  // namespace pendulum
