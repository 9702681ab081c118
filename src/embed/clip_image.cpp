// Pixels, network, key.
#include "embed/clip_image.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "embed/clip_pixels.h"
#include "embed/content_hash.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr int kClipVersion = 1;  // raise it with every change of a state's values

std::string find_weights(const ImageConfig& config) {
  if (config.kind != "clip")
    throw ConfigError(text("image.kind is '", config.kind, "'; expected clip"));
  std::error_code ignored;
  if (!fs::exists(config.weights, ignored)) {
    throw ConfigError(text("image.weights: ", config.weights, ": there is no such file or folder"));
  }
  const fs::path inner = fs::path(config.weights) / "image_encoder";
  return fs::is_directory(inner, ignored) ? inner.string() : config.weights;
}

}  // namespace

ClipImageEncoder::ClipImageEncoder(const ImageConfig& config) : network_(find_weights(config)) {}

at::Tensor ClipImageEncoder::states(const Frames& frames) const {
  return network_.penultimate(clip_pixels(frames, static_cast<int>(network_.config().image)));
}

std::string ClipImageEncoder::key() const {
  std::call_once(key_once_, [&] {
    key_ = text("clip/", content_hash(network_.paths()).substr(0, 32), "/v", kClipVersion);
  });
  return key_;
}

nlohmann::json ClipImageEncoder::describe() const {
  return {{"kind", "clip"}, {"tokens", tokens()}, {"dim", dim()}, {"key", key()}};
}

std::vector<TakenFile> ClipImageEncoder::files() const {
  std::vector<TakenFile> files;
  for (const std::string& path : network_.paths()) {
    const fs::path name = fs::path(path).filename();
    files.push_back({"image_encoder/" + name.string(), path, name.extension() == ".safetensors"});
  }
  return files;
}

std::unique_ptr<ClipImageEncoder> make_image_encoder(const ImageConfig& config) {
  return config.kind == "none" ? nullptr : std::make_unique<ClipImageEncoder>(config);
}

}  // namespace pendulum
