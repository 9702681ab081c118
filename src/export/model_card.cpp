// The model card's text.
#include "export/model_card.h"

#include <fmt/format.h>

#include "export/pipeline_folder.h"

namespace pendulum {
namespace {

constexpr char kModelCard[] = R"(# {title}

A video diffusion transformer trained by pendulum: run `{run}`, {step} optimiser steps, last stage `{stage}`, {weights}.

| | |
|---|---|
| transformer | {layers} layers, width {width}, {parameters:.2f} million parameters |
| clip | {shape} (frames x height x width), {fps} frames per second |
| codec | {codec} |
| text encoder | {text}, {length} tokens |
| predicts | {predict} |
| drawn with | {solver}, {steps} steps, guidance {guidance} |
{origins}
```sh
pendulum sample {title} --prompt "..." --out clip.mp4
```

{diffusers}
`pendulum.json` records the codec, the encoders, what the network predicts and the sampler's settings. Time runs from 1
(noise) to 0 (data), given to the transformer times 1000; captions are zero-padded to {length} tokens, and no caption is
{no_caption}. Which data the run consumed is recorded in its consumption log,
whose head is `{head}`, {signed}.
)";

constexpr char kTransformer[] = R"(```python
from diffusers import WanTransformer3DModel
transformer = WanTransformer3DModel.from_pretrained("{title}/transformer")
```

`transformer/` is a diffusers folder; the whole model diffusers cannot run: {obstacle}.)";

constexpr char kPipeline[] = R"(```python
from diffusers import {pipeline}
pipeline = {pipeline}.from_pretrained("{title}")
video = pipeline({arguments}).frames[0]
```

The folder is a diffusers pipeline (0.42 or later). Its scheduler takes Euler steps at the times of `pendulum sample --solver
euler`, with the shift {shift:.4g}{shift_words}: from the same noise it draws the same video.{image_words})";

// What the pipeline's own defaults are not.
std::string pipeline_arguments(const TrainedModel& model) {
  const bool has_image = pipeline_class(model) == "WanImageToVideoPipeline";
  return fmt::format(
      "{}\"...\", height={}, width={}, num_frames={}, num_inference_steps={},\n"
      "                 guidance_scale={}, max_sequence_length={}",
      has_image ? "image, " : "", model.shape.height, model.shape.width, model.shape.frames,
      model.generate.steps, model.generate.guidance, model.text_config.length);
}

std::string diffusers_usage(const TrainedModel& model, const std::string& title) {
  using fmt::arg;
  const std::string name = pipeline_class(model);
  if (name.empty())
    return fmt::format(kTransformer, arg("title", title),
                       arg("obstacle", pipeline_obstacle(model)));
  return fmt::format(
      kPipeline, arg("title", title), arg("pipeline", name),
      arg("arguments", pipeline_arguments(model)), arg("shift", pipeline_shift(model)),
      arg("shift_words", model.generate.shift ? "" : ", which `auto` gives at the size above"),
      arg("image_words",
          model.first_frame == FirstFrame::latent
              ? " `WanImageToVideoPipeline` loads the folder too, and takes an image."
              : ""));
}

// Rows for the weights of others.
std::string origins_of(const Provenance& training) {
  std::string rows;
  for (const Origin& origin : training.origins) {
    if (!origin.is_own) rows += fmt::format("| weights of others | {} |\n", describe(origin));
  }
  return rows;
}

}  // namespace

std::string model_card(const TrainedModel& model, const std::string& title) {
  int64_t parameters = 0;
  for (const auto& [name, tensor] : model.transformer->parameters()) parameters += tensor.numel();
  const Provenance& training = model.provenance;
  using fmt::arg;
  return fmt::format(
      kModelCard, arg("title", title), arg("run", training.run), arg("step", training.step),
      arg("stage", training.stage), arg("weights", training.weights_words()),
      arg("layers", model.architecture.layers),
      arg("width", model.architecture.heads * model.architecture.head_dim),
      arg("parameters", 1e-6 * static_cast<double>(parameters)), arg("shape", model.shape.name()),
      arg("fps", model.generate.fps), arg("codec", model.codec->key()),
      arg("text", model.text_config.kind), arg("length", model.text_config.length),
      arg("predict", model.objective.predict == "x" ? "the clean latent" : "the velocity"),
      arg("solver", model.generate.solver), arg("steps", model.generate.steps),
      arg("guidance", model.generate.guidance), arg("origins", origins_of(training)),
      arg("signed", training.consumption_signature.empty()
                        ? "not signed"
                        : "signed by `" + training.consumption_public_key + "`"),
      arg("diffusers", diffusers_usage(model, title)),
      arg("no_caption", model.text_config.kind == "umt5" ? "the empty text's states" : "all zeros"),
      arg("head", training.head_words()));
}

}  // namespace pendulum
