// Finds the parts, and joins them.
#include "embed/umt5_encoder.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "embed/content_hash.h"
#include "embed/prompt_clean.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr int kUmt5Version = 1;  // raise it with every change of a state's values
constexpr int kMaxLength = 512;  // tokens; what UMT5 and Wan 2.x were trained with

Umt5Place find_parts(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored))
    throw ConfigError(text("text.weights: ", path, ": there is no such file or folder"));
  Umt5Place place{.weights = path, .vocabulary = {}};
  fs::path folder(path);
  if (!fs::is_directory(folder)) {
    folder = fs::absolute(folder).parent_path();
  } else if (fs::is_directory(folder / "text_encoder")) {
    place.weights = (folder / "text_encoder").string();
  }
  const fs::path beside = fs::absolute(folder).lexically_normal() / ".." / "tokenizer";
  for (const fs::path& tried :
       {folder, folder / "tokenizer", beside.lexically_normal(), folder / "google/umt5-xxl"}) {
    place.vocabulary = find_t5_vocabulary(tried.string());
    if (!place.vocabulary.empty()) break;
  }
  return place;
}

T5Vocabulary read_vocabulary(const Umt5Place& place, const Umt5Weights& weights) {
  const std::string embedded = weights.embedded_tokenizer();
  if (!embedded.empty())
    return parse_spiece_model(embedded, kUmt5Sentinels, place.weights + ", tensor spiece_model");
  if (!place.vocabulary.empty()) return read_t5_vocabulary(place.vocabulary);
  throw ConfigError(
      text("text.weights: ", place.weights,
           ": the tokenizer is missing; put tokenizer.json or spiece.model of umt5-xxl beside the "
           "weights or into a folder `tokenizer` there"));
}

std::optional<at::ScalarType> compute_type(at::Device device) {
  return device.is_cpu() ? std::nullopt : std::optional(at::kBFloat16);
}

}  // namespace

Umt5Encoder::Umt5Encoder(const TextConfig& config, const std::string& path, at::Device device)
    : Umt5Encoder(config, find_parts(path), device) {}

Umt5Encoder::Umt5Encoder(const TextConfig& config, Umt5Place place, at::Device device)
    : TextEncoder(config),
      place_(std::move(place)),
      network_(Umt5Weights::open(place_.weights), device, compute_type(device)),
      tokenizer_(read_vocabulary(place_, network_.weights())),
      compute_(device.is_cpu() ? "fp32" : "bf16") {
  if (length() < 1 || length() > kMaxLength)
    throw ConfigError(text("text.length is ", length(), "; expected 1 to ", kMaxLength));
  if (tokenizer_.size() > network_.config().vocabulary) {
    throw DataError(text(place_.weights, ": its embedding has ", network_.config().vocabulary,
                         " rows, the tokenizer ",
                         place_.vocabulary.empty() ? "inside" : place_.vocabulary, " knows ",
                         tokenizer_.size(), " tokens: it is another model's"));
  }
}

at::Tensor Umt5Encoder::states(std::string_view caption) const {
  return network_.forward(tokenizer_.encode(clean_prompt(caption), length()));
}

at::Tensor Umt5Encoder::no_caption() const {
  std::call_once(no_caption_once_, [&] { no_caption_ = pad(states("")); });
  return no_caption_;
}

std::string Umt5Encoder::key() const {
  std::call_once(key_once_, [&] {
    std::vector<std::string> paths;
    for (const TakenFile& file : files()) paths.push_back(file.path);
    key_ = text("umt5/", content_hash(paths).substr(0, 32), "/l", length(), "/", compute_, "/v",
                kUmt5Version);
  });
  return key_;
}

std::vector<TakenFile> Umt5Encoder::files() const {
  std::vector<TakenFile> files;
  for (const std::string& path : network_.weights().paths()) {
    const fs::path name = fs::path(path).filename();
    files.push_back({"text_encoder/" + name.string(), path, name.extension() == ".safetensors"});
  }
  if (place_.vocabulary.empty()) return files;
  const fs::path folder = fs::path(place_.vocabulary).parent_path();
  for (const char* name :
       {"tokenizer.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json"}) {
    if (fs::is_regular_file(folder / name))
      files.push_back({text("tokenizer/", name), (folder / name).string()});
  }
  return files;
}

}  // namespace pendulum
