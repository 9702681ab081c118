// Exports a small random model for the oracle and says what this program computes with it.
#include <ATen/ATen.h>

#include <cstdio>

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
