// Writes an export beside its place, reads it back, compares, renames.
#include "export/export.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <filesystem>

#include "core/error.h"
#include "core/publish.h"
#include "core/random.h"
#include "export/model_card.h"
#include "export/model_record.h"
#include "model/diffusers_config.h"
#include "safetensors/sharded.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr char kTransformerConfig[] = "transformer/config.json";
constexpr char kTransformerFolder[] = "transformer";
constexpr char kTransformerStem[] = "diffusion_pytorch_model";
constexpr char kCodecFolder[] = "vae";
constexpr char kTextFolder[] = "text_encoder";

// Removes a folder that was not given its name.
struct UnfinishedFolder {
  fs::path path;
  ~UnfinishedFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

// ConfigError unless `folder` is free to be written.
void require_free(const fs::path& folder, bool is_forced) {
  if (!fs::exists(fs::symlink_status(folder))) return;
  if (fs::is_directory(folder) && fs::is_empty(folder)) return;
  if (!is_export(folder.string())) {
    throw ConfigError(
        text(folder.string(), ": exists and is not an export of pendulum; choose another folder"));
  }
  if (!is_forced)
    throw ConfigError(text(folder.string(), ": holds an earlier export; --force replaces it"));
}

void require_finite(const TrainedModel& model) {
  for (const auto& [name, tensor] : model.transformer->parameters()) {
    if (!tensor.isfinite().all().item<bool>()) {
      throw DataError(
          text("run ", model.provenance.run, ", step ", model.provenance.step, ": ", name,
               " holds numbers that are not finite; the run has diverged, nothing is exported"));
    }
  }
}

NamedTensors stored_tensors(const TrainedModel& model, at::ScalarType dtype) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : model.transformer->parameters()) {
    tensors.emplace_back(name, tensor.detach().to(at::kCPU, dtype));
  }
  return tensors;
}

void take_text_encoder(const TextEncoder& text_encoder, const fs::path& folder) {
  for (const TakenFile& file : text_encoder.files()) {
    const fs::path place = folder / file.name;
    fs::create_directories(place.parent_path());
    if (file.is_linked) {
      fs::create_symlink(fs::canonical(file.path), place);
    } else {
      publish_file(place.string(),
                   [&](const std::string& temporary) { fs::copy_file(file.path, temporary); });
    }
    sync_folder(place.parent_path().string());
  }
}

void write_parts(const TrainedModel& model, const fs::path& folder, const std::string& title,
                 at::ScalarType dtype, uint64_t shard_bytes) {
  fs::create_directories(folder / kTransformerFolder);
  publish_text((folder / kTransformerConfig).string(),
               diffusers_config(model.architecture).dump(2) + "\n");
  write_sharded_safetensors((folder / kTransformerFolder).string(), kTransformerStem,
                            stored_tensors(model, dtype), shard_bytes, {{"format", "pt"}});
  sync_folder((folder / kTransformerFolder).string());
  model.codec->write_weights((folder / kCodecFolder).string());
  take_text_encoder(*model.text_encoder, folder);
  publish_text((folder / "README.md").string(), model_card(model, title));
  publish_text((folder / kRecordFile).string(), model_record(model, dtype).dump(2) + "\n");
  sync_folder(folder.string());
}

at::Tensor keyed_normal(at::IntArrayRef sizes, uint64_t key) {
  at::Tensor noise = at::empty(sizes, at::kFloat);
  fill_normal(noise.data_ptr<float>(), noise.numel(), draw(Purpose::generate, key));
  return noise;
}

// One velocity or latent at fixed noise, time and text, two tokens to a side.
at::Tensor fixed_forward(const VideoTransformer& transformer, const WanConfig& config) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = keyed_normal(
      {1, config.in_channels, config.patch[0], 2 * config.patch[1], 2 * config.patch[2]}, 1);
  const at::Tensor text = keyed_normal({1, 3, config.text_dim}, 2);
  return transformer.forward(x, at::full({1}, 500.0, at::kFloat), text);
}

// What was read back must be what was trained, in the stored type; `dtype` rounding aside, nothing
// may differ.
void compare(const TrainedModel& written, const TrainedModel& reloaded, const std::string& folder,
             at::ScalarType dtype) {
  VideoTransformer reference(written.architecture, 0);
  const at::NoGradGuard no_grad;
  const NamedTensors stored = stored_tensors(written, dtype);
  const auto& read = reloaded.transformer->parameters();
  check(stored.size() == read.size(), "as many tensors as were written", read.size(), " of ",
        stored.size());
  for (size_t i = 0; i < stored.size(); ++i) {
    const at::Tensor expected = stored[i].second.to(at::kFloat);
    const at::Tensor found = read[i].second.detach();
    if (read[i].first != stored[i].first || !found.equal(expected)) {
      throw DataError(
          text(folder, ": ", stored[i].first, " was read back differently than it was written"));
    }
    at::Tensor(reference.parameters()[i].second).copy_(expected);
  }
  const at::Tensor expected = fixed_forward(reference, written.architecture);
  if (!fixed_forward(*reloaded.transformer, reloaded.architecture).equal(expected)) {
    throw DataError(
        text(folder, ": the reloaded transformer computes other numbers than the trained one"));
  }
}

// The parts that the record names must be those that this program builds from it.
void require_key(const nlohmann::json& record, const char* part, const std::string& key,
                 const std::string& path) {
  if (record[part].value("key", nlohmann::json()) != key) {
    throw DataError(text(path, ": the ", part, " was ",
                         record[part].value("key", nlohmann::json()).dump(), " in training and is ",
                         key, " here"));
  }
}

// What is in `temporary` is whole; an earlier export steps aside for the rename, and comes back
// where that fails.
void put_in_place(const fs::path& temporary, const fs::path& folder) {
  if (!fs::exists(folder)) return publish_folder(temporary.string(), folder.string());
  const fs::path earlier = folder.string() + text(".replaced.", ::getpid());
  fs::rename(folder, earlier);
  try {
    publish_folder(temporary.string(), folder.string());
  } catch (...) {
    fs::rename(earlier, folder);
    throw;
  }
  fs::remove_all(earlier);
}

}  // namespace

void write_export(const TrainedModel& model, const std::string& folder, at::ScalarType dtype,
                  bool is_forced, uint64_t shard_bytes) {
  check(dtype == at::kFloat || dtype == at::kBFloat16, "an export in fp32 or bf16",
        at::toString(dtype));
  fs::path target = fs::absolute(folder).lexically_normal();
  if (target.filename().empty()) target = target.parent_path();  // "out/" is "out"
  require_free(target, is_forced);
  require_finite(model);
  try {
    const UnfinishedFolder unfinished{fs::path(target.string() + text(".tmp.", ::getpid()))};
    fs::create_directories(target.parent_path());
    fs::remove_all(unfinished.path);
    fs::create_directory(unfinished.path);
    write_parts(model, unfinished.path, target.filename().string(), dtype, shard_bytes);
    compare(model, load_export(unfinished.path.string()), target.string(), dtype);
    require_free(target, is_forced);  // again: writing took its time
    put_in_place(unfinished.path, target);
  } catch (const fs::filesystem_error& error) {
    throw Error(text("exporting to ", target.string(), " failed: ", error.what()));
  }
}

bool is_export(const std::string& folder) {
  const fs::path record = fs::path(folder) / kRecordFile;
  std::error_code ignored;
  if (!fs::is_regular_file(record, ignored)) return false;
  const nlohmann::json json = read_json(record.string());
  return json.is_object() && json.value("format", nlohmann::json()) == kRecordFormat;
}

TrainedModel load_export(const std::string& folder) {
  const fs::path base(folder);
  const std::string record_path = (base / kRecordFile).string();
  const nlohmann::json record = read_json(record_path);
  TrainedModel model = read_model_record(record, record_path);
  const std::string config_path = (base / kTransformerConfig).string();
  model.architecture = read_diffusers_config(read_json(config_path), config_path);
  model.transformer = load_transformer(model.architecture, (base / kTransformerFolder).string());
  if (model.codec_config.kind == "wan") model.codec_config.weights = (base / kCodecFolder).string();
  model.codec = make_codec(model.codec_config);
  model.text_config.weights = (base / kTextFolder).string();
  model.text_encoder = make_text_encoder(model.text_config, model.text_config.weights);
  require_key(record, "codec", model.codec->describe()["key"], record_path);
  require_key(record, "text_encoder", model.text_encoder->key(), record_path);
  return model;
}

}  // namespace pendulum
