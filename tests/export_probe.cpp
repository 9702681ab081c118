// Exports a small random model for the oracle and says what this program computes with it.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>

#include "export/adapter.h"
#include "export/export.h"
#include "safetensors/safetensors.h"
#include "tiny_model.h"

namespace pendulum {
namespace {

at::Tensor keyed(at::IntArrayRef sizes, uint64_t key) {
  at::Tensor values = at::empty(sizes, at::kFloat);
  fill_normal(values.data_ptr<float>(), values.numel(), key);
  return values;
}

// FOLDER/base: the model whose adapters are in FOLDER/lora and FOLDER/lora_original; FOLDER/merged:
// both together. FOLDER/adapted.safetensors: what the model with its adapters puts out.
void probe_adapters(const std::string& folder, const at::Tensor& x, const at::Tensor& time,
                    const at::Tensor& text) {
  TrainedModel model = tiny_model(12);
  write_export(model, folder + "/base", at::kFloat, false);
  model.transformer->add_adapters({.rank = 3, .alpha = 2}, 5);
  randomise(model.transformer->trainable(), 6);
  write_adapter(model, folder + "/lora", WeightLayout::diffusers, at::kFloat, false);
  write_adapter(model, folder + "/lora_original", WeightLayout::original, at::kFloat, false);
  write_safetensors(folder + "/adapted.safetensors",
                    {{"output", model.transformer->forward(x, time, text)}});
  model.transformer->merge_adapters();
  write_export(model, folder + "/merged", at::kFloat, false);
}

// FOLDER/fp32 and FOLDER/bf16: exports; FOLDER/forward.safetensors: inputs and the fp32
// transformer's output.
void probe(const std::string& folder) {
  const TrainedModel model = tiny_model(11);
  write_export(model, folder + "/fp32", at::kFloat, false);
  write_export(model, folder + "/bf16", at::kBFloat16, false);
  const at::NoGradGuard no_grad;
  const at::Tensor x = keyed({2, model.codec->channels(), 3, 4, 6}, 1);
  const at::Tensor time = at::tensor({17.5f, 961.0f});
  const at::Tensor text = model.text_encoder->encode({"a red circle moves left", "still"});
  const TrainedModel rounded = load_export(folder + "/bf16");
  write_safetensors(folder + "/forward.safetensors",
                    {{"x", x},
                     {"time", time},
                     {"text", text},
                     {"output", model.transformer->forward(x, time, text)},
                     {"output_bf16", rounded.transformer->forward(x, time, text)}});
  probe_adapters(folder, x, time, text);
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: export_probe FOLDER\n", stderr);
    return 2;
  }
  pendulum::probe(argv[1]);
  return 0;
}
