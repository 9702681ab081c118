// Reads weights and inputs from a safetensors file, runs the video transformer forward and
// backward, writes its output and all gradients: what tests/oracle/wan_oracle.py judges.
//   wan_probe CASE.safetensors RESULT.safetensors
// Metadata of the case: "config" (json: the fields of WanConfig), "compute" (float32, float64 or
// bfloat16). Tensors: "in.latents", "in.time", "in.text", "in.weight" (of the loss: sum(output *
// weight)), and "model.<name>".
#include <ATen/ATen.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/video_transformer.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

WanConfig config_from(const nlohmann::json& json) {
  WanConfig config{.layers = json.at("layers"),
                   .heads = json.at("heads"),
                   .head_dim = json.at("head_dim"),
                   .ffn_dim = json.at("ffn_dim"),
                   .freq_dim = json.at("freq_dim"),
                   .in_channels = json.at("in_channels"),
                   .out_channels = json.at("out_channels"),
                   .text_dim = json.at("text_dim")};
  config.image_dim = json.value("image_dim", 0);
  config.image_positions = json.value("image_positions", 0);
  config.patch = json.at("patch").get<std::array<int, 3>>();
  config.cross_attn_norm = json.at("cross_attn_norm");
  config.eps = json.at("eps");
  return config;
}

void run(const std::string& case_path, const std::string& result_path) {
  const SafetensorsFile file = SafetensorsFile::open(case_path);
  const std::string compute = file.metadata().at("compute");
  const bool is_double = compute == "float64";
  VideoTransformer model(config_from(nlohmann::json::parse(file.metadata().at("config"))), 0,
                         is_double ? at::kDouble : at::kFloat);
  if (compute == "bfloat16") model.set_compute(at::kBFloat16);
  std::map<std::string, at::Tensor> weights;
  for (const std::string& name : file.names()) {
    if (name.starts_with("model.")) weights[name.substr(6)] = file.load(name);
  }
  model.load(weights);

  const auto type = is_double ? at::kDouble : at::kFloat;
  const at::Tensor latents = file.load("in.latents").to(type).set_requires_grad(true);
  const at::Tensor text_states = file.load("in.text").to(type).set_requires_grad(true);
  at::Tensor image_states;
  if (file.contains("in.image"))
    image_states = file.load("in.image").to(type).set_requires_grad(true);
  const at::Tensor output =
      model.forward(latents, file.load("in.time"), text_states, nullptr, image_states);
  (output * file.load("in.weight").to(type)).sum().backward();

  NamedTensors results{{"output", output.detach()},
                       {"grad.in.latents", latents.grad()},
                       {"grad.in.text", text_states.grad()}};
  if (image_states.defined()) results.emplace_back("grad.in.image", image_states.grad());
  for (const auto& [name, parameter] : model.parameters()) {
    check(parameter.grad().defined(), "a gradient for every parameter, none for ", name);
    results.emplace_back("grad.model." + name, parameter.grad().contiguous());
  }
  write_safetensors(result_path, results, {});
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: wan_probe CASE.safetensors RESULT.safetensors\n";
    return 2;
  }
  try {
    pendulum::run(argv[1], argv[2]);
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
