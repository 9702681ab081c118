// Finding, recognising and reading published weights.
#include "model/pretrained.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_file.h"
#include "model/diffusers_config.h"
#include "model/parameters.h"
#include "ops/parallel.h"
#include "safetensors/expected_tensors.h"
#include "safetensors/read_ahead.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr int kPublishedHeadDim = 128;

// By their bits, for a loop over integers goes over many at a time.
bool all_finite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000;  // all of it is set in infinities and NaN alone
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i)
    found |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent;
  return found == 0;
}

// Whether all that was copied is finite: each piece is looked at while it is in a core's cache, for
// reading gigabytes of weights once more would take a quarter as long as all the import.
bool copy_finite(const at::Tensor& to, const at::Tensor& from) {
  if (!to.is_cpu() || to.scalar_type() != at::kFloat) {
    to.copy_(from);
    return to.isfinite().all().item<bool>();
  }
  constexpr int64_t kPiece = 1 << 18;
  check(to.is_contiguous() && from.is_contiguous(), "weights in one piece");
  const at::Tensor into = to.view(-1), values = from.view(-1);
  std::atomic<bool> finite = true;
  parallel_for(0, into.numel(), kPiece, [&](int64_t first, int64_t last) {
    for (; first < last; first += kPiece) {
      const int64_t count = std::min(kPiece, last - first);
      const at::Tensor piece = into.narrow(0, first, count);
      piece.copy_(values.narrow(0, first, count));
      if (!all_finite(piece.const_data_ptr<float>(), count)) finite = false;
    }
  });
  return finite;
}

}  // namespace

PretrainedTransformer PretrainedTransformer::open(const std::string& path) {
  fs::path place(path);
  if (!fs::exists(place)) throw DataError(text(path, ": there is no such file or folder"));
  if (fs::is_directory(place / "transformer")) place /= "transformer";
  ShardedSafetensors tensors = ShardedSafetensors::open(place.string());
  const std::vector<std::string> names = tensors.names();
  const auto layout = recognise_layout(names);
  if (!layout) {
    throw DataError(text(place.string(),
                         ": the tensors are not named as a Wan transformer's; the first is ",
                         names.empty() ? "missing" : names.front()));
  }
  PretrainedTransformer found(std::move(tensors), *layout);
  const fs::path config = place / "config.json";
  found.config_ = fs::is_directory(place) && fs::exists(config)
                      ? read_diffusers_config(read_json(config.string()), config.string())
                      : found.config_from_shapes();
  return found;
}

WanConfig PretrainedTransformer::config_from_shapes() const {
  const auto size = [&](const char* name, size_t dimension) {
    const std::string theirs = name_in(layout_, name);
    if (!tensors_.contains(theirs))
      throw DataError(text(tensors_.path(), ": the tensor ", theirs, " is missing"));
    const auto& shape = tensors_.info(theirs).shape;
    if (dimension >= shape.size()) {
      throw DataError(text(tensors_.path(), ": ", theirs, " has ", shape.size(),
                           " dimensions, expected at least ", dimension + 1));
    }
    return static_cast<int>(shape[dimension]);
  };
  WanConfig config;
  const int dim = size("patch_embedding.weight", 0);
  if (dim % kPublishedHeadDim != 0) {
    throw DataError(text(tensors_.path(), ": ", dim, " channels are no whole number of heads of ",
                         kPublishedHeadDim,
                         "; a diffusers folder says in its config.json how many there are"));
  }
  config.head_dim = kPublishedHeadDim;
  config.heads = dim / kPublishedHeadDim;
  while (tensors_.contains(name_in(layout_, text("blocks.", config.layers, ".attn1.to_q.weight"))))
    ++config.layers;
  config.ffn_dim = size("blocks.0.ffn.net.0.proj.weight", 0);
  config.freq_dim = size("condition_embedder.time_embedder.linear_1.weight", 1);
  config.text_dim = size("condition_embedder.text_embedder.linear_1.weight", 1);
  config.in_channels = size("patch_embedding.weight", 1);
  int patch = 1;
  for (size_t axis = 0; axis < 3; ++axis) {
    config.patch[axis] = size("patch_embedding.weight", 2 + axis);
    patch *= config.patch[axis];
  }
  config.out_channels = size("proj_out.weight", 0) / std::max(1, patch);
  config.cross_attn_norm = tensors_.contains(name_in(layout_, "blocks.0.norm2.weight"));
  const std::string image = "condition_embedder.image_embedder.";
  if (tensors_.contains(name_in(layout_, image + "norm1.weight")))
    config.image_dim = size((image + "norm1.weight").c_str(), 0);
  if (tensors_.contains(name_in(layout_, image + "pos_embed")))
    config.image_positions = size((image + "pos_embed").c_str(), 1);
  return config;
}

void PretrainedTransformer::check_names_and_shapes(const WanConfig& config) const {
  std::vector<ExpectedTensor> expected;
  for (const ParameterSpec& spec : parameter_specs(config))
    expected.push_back({name_in(layout_, spec.name), spec.shape});
  require_tensors(tensors_, expected, {}, "this transformer");
}

// A damaged file: trained on, it would pass for a learning rate that is too high.
void PretrainedTransformer::require_finite(bool holds, const std::string& name) const {
  if (holds) return;
  throw DataError(
      text(tensors_.path(), ": ", name_in(layout_, name), " holds values that are not finite"));
}

void PretrainedTransformer::load_into(VideoTransformer& model, Fingerprint* read) const {
  check_names_and_shapes(model.config());
  const at::ScalarType type = model.parameters().front().second.scalar_type();
  const std::map<std::string, at::Tensor> parameters(model.parameters().begin(),
                                                     model.parameters().end());
  const std::vector<ParameterSpec> specs = parameter_specs(model.config());
  std::vector<std::string> names;
  for (const ParameterSpec& spec : specs) names.push_back(name_in(layout_, spec.name));
  ReadAhead ahead(tensors_, names);
  for (const ParameterSpec& spec : specs) {
    const at::Tensor stored = ahead.next();
    if (const auto found = parameters.find(spec.name); found != parameters.end()) {
      const at::Tensor parameter = found->second.detach();
      require_finite(copy_finite(parameter, stored), spec.name);
      if (read) read->add(spec.name, parameter);
      continue;
    }
    const at::Tensor values = stored.to(type);
    if (read) read->add(spec.name, values);
    require_finite(is_storable(values), spec.name);
    model.store(spec.name, values);
  }
}

void PretrainedTransformer::load_into(const VideoTransformer& model,
                                      const NamedTensors& these) const {
  check_names_and_shapes(model.config());
  std::vector<std::string> names;
  for (const auto& [name, parameter] : these) names.push_back(name_in(layout_, name));
  ReadAhead ahead(tensors_, names);
  for (const auto& [name, parameter] : these) {
    require_finite(copy_finite(parameter.detach(), ahead.next()), name);
  }
}

}  // namespace pendulum
