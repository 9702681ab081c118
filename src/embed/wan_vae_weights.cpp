// Finding, recognising, reading and writing the weights of Wan's VAE.
#include "embed/wan_vae_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/json_file.h"
#include "core/publish.h"
#include "safetensors/expected_tensors.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

}  // namespace

WanVaeWeights WanVaeWeights::open(const std::string& path) {
  fs::path place(path);
  if (!fs::exists(place)) throw DataError(text(path, ": there is no such file or folder"));
  if (fs::is_directory(place / "vae")) place /= "vae";
  WanVaeWeights found(ShardedSafetensors::open(place.string()));
  found.recognise_layout();
  const fs::path config = place / "config.json";
  found.config_ = fs::is_directory(place) && fs::exists(config)
                      ? read_wan_vae_config(read_json(config.string()), config.string())
                      : found.config_from_shapes();
  found.parameters_ = wan_vae_parameters(found.config_);
  found.check_tensors();
  return found;
}

// Names that one layout alone has.
void WanVaeWeights::recognise_layout() {
  if (tensors_.contains("decoder.mid_block.resnets.0.norm1.gamma")) return;
  is_original_ = tensors_.contains("decoder.middle.0.residual.0.gamma");
  if (is_original_) return;
  const std::vector<std::string> names = tensors_.names();
  throw DataError(text(tensors_.path(),
                       ": the tensors are not named as those of Wan's VAE; the first is ",
                       names.empty() ? "missing" : names.front()));
}

WanVaeConfig WanVaeWeights::config_from_shapes() const {
  const auto size = [&](const char* ours, const char* original, size_t axis) {
    const std::string name = is_original_ ? original : ours;
    if (!tensors_.contains(name))
      throw DataError(text(tensors_.path(), ": the tensor ", name, " is missing"));
    const std::vector<int64_t>& shape = tensors_.info(name).shape;
    const int64_t found = axis < shape.size() ? shape[axis] : 0;
    if (found < 1 || found > (1 << 16)) {
      throw DataError(text(tensors_.path(), ": ", name, " has the shape ", at::IntArrayRef(shape),
                           ", which no weight of Wan's VAE has"));
    }
    return static_cast<int>(found);
  };
  // Published in two variants, whose levels, blocks and times are the defaults of WanVaeConfig.
  WanVaeConfig config;
  config.base_dim = size("encoder.conv_in.weight", "encoder.conv1.weight", 0);
  config.z_dim = size("post_quant_conv.weight", "conv2.weight", 0);
  config.decoder_base_dim = size("decoder.norm_out.gamma", "decoder.head.0.gamma", 0);
  const int channels = size("encoder.conv_in.weight", "encoder.conv1.weight", 1);
  while (config.channels() < channels && config.patch < 8) ++config.patch;
  config.is_residual =
      tensors_.contains(is_original_ ? "encoder.downsamples.0.downsamples.0.residual.0.gamma"
                                     : "encoder.down_blocks.0.resnets.0.norm1.gamma");
  if (!set_published_statistics(config)) {
    throw DataError(text(tensors_.path(), ": latents of ", config.z_dim,
                         " channels are neither Wan 2.1's nor 2.2's, and a file alone does not say "
                         "their mean and deviation; a diffusers folder does in its config.json"));
  }
  return config;
}

void WanVaeWeights::check_tensors() const {
  std::vector<ExpectedTensor> expected;
  for (const WanVaeParameter& parameter : parameters_)
    expected.push_back({name_of(parameter), parameter.shape});
  require_tensors(tensors_, expected, kPlainFloats, "this VAE");
}

at::Tensor WanVaeWeights::load(const WanVaeParameter& parameter) const {
  return tensors_.load(name_of(parameter));
}

void WanVaeWeights::write_diffusers(const std::string& folder,
                                    std::optional<at::ScalarType> dtype) const {
  fs::create_directories(folder);
  NamedTensors tensors;
  for (const WanVaeParameter& parameter : parameters_) {
    const at::Tensor stored = load(parameter);
    tensors.emplace_back(parameter.name, dtype ? stored.to(*dtype) : stored);
  }
  write_safetensors(folder + "/diffusion_pytorch_model.safetensors", tensors, {{"format", "pt"}});
  publish_text(folder + "/config.json", wan_vae_config_json(config_).dump(2) + "\n");
  sync_folder(folder);
}

}  // namespace pendulum
