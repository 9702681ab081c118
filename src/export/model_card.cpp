// The model card's text.
#include "export/model_card.h"

#include <fmt/format.h>

namespace pendulum {
namespace {

constexpr char kCard[] = R"(# {title}

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

```python
from diffusers import WanTransformer3DModel
transformer = WanTransformer3DModel.from_pretrained("{title}/transformer")
```

`transformer/` is a diffusers folder; `pendulum.json` records the codec, the text encoder, what the network predicts and
the sampler's settings. Time runs from 1 (noise) to 0 (data), given to the transformer times 1000; captions are
zero-padded to {length} tokens, and no caption is all zeros. Which data the run consumed is recorded in its consumption log,
whose head is `{head}`, {signed}.
)";

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
      kCard, arg("title", title), arg("run", training.run), arg("step", training.step),
      arg("stage", training.stage),
      arg("weights",
          training.weights == "ema" ? "moving average of the weights" : "weights as trained"),
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
      arg("head", training.consumption_head.empty() ? "not recorded" : training.consumption_head));
}

}  // namespace pendulum
