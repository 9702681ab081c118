// Renames, writes, reads back.
#include "export/adapter.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/publish.h"
#include "export/model_record.h"
#include "model/lora.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr char kAdapterCard[] = R"(# {title}

Low-rank adapters for a Wan video transformer, trained by pendulum: run `{run}`, {step} optimiser steps, last stage `{stage}`, {weights};
rank {rank}, alpha {alpha}, {layers} layers. They belong to the base model `{base}`.

{usage}
Which data the run consumed is proven by its consumption log, whose head is `{head}`.
)";

constexpr char kDiffusersUsage[] = R"(```python
pipeline.load_lora_weights("{title}")
```
)";
constexpr char kComfyUsage[] =
    "In ComfyUI: put the file into `models/loras` and load it behind the base model.\n";

double alpha_of(const LoraConfig& lora) { return lora.scale() * lora.rank; }

// "blocks.0.attn1.to_q" as the original layout calls it.
std::string original_layer(const std::string& layer) {
  const std::string weight = ".weight";
  const std::string name = name_in({WeightLayout::original, ""}, layer + weight);
  return name.substr(0, name.size() - weight.size());
}

NamedTensors renamed(const TrainedModel& model, const std::vector<std::string>& layers,
                     WeightLayout layout, at::ScalarType dtype) {
  const NamedTensors trained = model.transformer->trainable();
  const std::map<std::string, at::Tensor> values(trained.begin(), trained.end());
  const auto stored = [&](const std::string& name) {
    return values.at(name).detach().to(at::kCPU, dtype).contiguous();
  };
  NamedTensors out;
  for (const std::string& layer : layers) {
    const at::Tensor down = stored(adapter_down(layer)), up = stored(adapter_up(layer));
    if (layout == WeightLayout::diffusers) {
      out.emplace_back("transformer." + adapter_down(layer), down);
      out.emplace_back("transformer." + adapter_up(layer), up);
      continue;
    }
    const std::string name = "diffusion_model." + original_layer(layer);
    out.emplace_back(name + ".lora_down.weight", down);
    out.emplace_back(name + ".lora_up.weight", up);
    out.emplace_back(name + ".alpha",
                     at::scalar_tensor(alpha_of(model.transformer->lora()), dtype));
  }
  return out;
}

// What diffusers hands to PEFT's LoraConfig.
std::map<std::string, std::string> metadata(const TrainedModel& model,
                                            const std::vector<std::string>& layers,
                                            WeightLayout layout) {
  std::map<std::string, std::string> entries{{"format", "pt"}};
  if (layout == WeightLayout::original) return entries;
  const LoraConfig& lora = model.transformer->lora();
  const nlohmann::json peft{{"transformer.r", lora.rank},
                            {"transformer.lora_alpha", alpha_of(lora)},
                            {"transformer.target_modules", layers}};
  entries["lora_adapter_metadata"] = peft.dump();
  return entries;
}

std::string card(const TrainedModel& model, const std::string& title, size_t num_layers,
                 WeightLayout layout) {
  const Provenance& training = model.provenance;
  const LoraConfig& lora = model.transformer->lora();
  using fmt::arg;
  return fmt::format(kAdapterCard, arg("title", title), arg("run", training.run),
                     arg("step", training.step), arg("stage", training.stage),
                     arg("weights", training.weights_words()), arg("rank", lora.rank),
                     arg("alpha", alpha_of(lora)), arg("layers", num_layers),
                     arg("base", training.base),
                     arg("usage", layout == WeightLayout::original
                                      ? std::string(kComfyUsage)
                                      : fmt::format(kDiffusersUsage, arg("title", title))),
                     arg("head", training.head_words()));
}

void compare(const NamedTensors& written, const std::string& path, const std::string& name) {
  const std::map<std::string, at::Tensor> read = read_safetensors(path);
  for (const auto& [tensor_name, tensor] : written) {
    const auto found = read.find(tensor_name);
    if (found == read.end() || !found->second.equal(tensor)) {
      throw DataError(
          text(name, ": ", tensor_name, " was read back differently than it was written"));
    }
  }
}

}  // namespace

std::string write_adapter(const TrainedModel& model, const std::string& folder, WeightLayout layout,
                          at::ScalarType dtype, bool is_forced) {
  if (!model.transformer->has_adapters()) {
    throw ConfigError(text("run ", model.provenance.run,
                           " trained all weights, not adapters; export the model itself"));
  }
  const fs::path place = fs::absolute(folder).lexically_normal();
  const std::string file = layout == WeightLayout::diffusers
                               ? "pytorch_lora_weights.safetensors"
                               : model.provenance.run + ".safetensors";
  const std::string path = (place / file).string();
  if (fs::exists(path) && !is_forced)
    throw ConfigError(text(path, ": exists; --force replaces it"));
  const std::vector<std::string> layers =
      adapted_layers(model.architecture, model.transformer->lora().targets);
  const NamedTensors tensors = renamed(model, layers, layout, dtype);
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.isfinite().all().item<bool>()) {
      throw DataError(text("run ", model.provenance.run, ", step ", model.provenance.step, ": ",
                           name,
                           " holds numbers that are not finite; the run has diverged, nothing is "
                           "exported"));
    }
  }
  fs::create_directories(place);
  publish_file(path, [&](const std::string& temporary) {
    write_safetensors(temporary, tensors, metadata(model, layers, layout));
    compare(tensors, temporary, path);
  });
  write_training_record(model.provenance, place.string());
  const fs::path named = place.filename().empty() ? place.parent_path() : place;
  publish_text((place / "README.md").string(),
               card(model, named.filename().string(), layers.size(), layout));
  return path;
}

}  // namespace pendulum
