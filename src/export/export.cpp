// Writes an export beside its place, reads it back, compares, renames.
#include "export/export.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <filesystem>

#include "core/error.h"
#include "core/json_file.h"
#include "core/publish.h"
#include "export/encoder_files.h"
#include "export/model_card.h"
#include "export/model_record.h"
#include "export/pipeline_folder.h"
#include "export/reload_check.h"
#include "model/diffusers_config.h"
#include "safetensors/sharded.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr char kTransformerFolder[] = "transformer";
constexpr char kLowNoiseFolder[] = "transformer_2";  // of a pair
constexpr char kTransformerStem[] = "diffusion_pytorch_model";
constexpr char kCodecFolder[] = "vae";

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

// Encoders, and what else diffusers wants where it has a pipeline for the model.
void write_encoders(const TrainedModel& model, const std::string& folder, uint64_t shard_bytes) {
  const bool is_pipeline = !pipeline_class(model).empty();
  if (is_pipeline) {
    take_umt5_encoder(*model.text_encoder, folder, shard_bytes);
    write_pipeline_files(model, folder);
  } else {
    take_text_encoder(*model.text_encoder, folder);
  }
  if (model.image_encoder) take_image_encoder(*model.image_encoder, folder);
}

// As a reader of the export opens them; the second one is null where the model has none.
std::unique_ptr<TextEncoder> text_encoder_in(TextConfig config, const fs::path& folder) {
  config.weights = (folder / kTextFolder).string();
  return make_text_encoder(config, config.weights);
}

std::unique_ptr<ClipImageEncoder> image_encoder_in(ImageConfig config, const fs::path& folder) {
  config.weights = (folder / kImageFolder).string();
  return make_image_encoder(config);
}

const char* folder_of(Expert expert) {
  return expert == Expert::low ? kLowNoiseFolder : kTransformerFolder;
}

void write_transformer(const VideoTransformer& transformer, const fs::path& folder,
                       at::ScalarType dtype, uint64_t shard_bytes) {
  fs::create_directories(folder);
  publish_text((folder / "config.json").string(),
               diffusers_config(transformer.config()).dump(2) + "\n");
  write_sharded_safetensors(folder.string(), kTransformerStem, stored_tensors(transformer, dtype),
                            shard_bytes, {{"format", "pt"}});
  sync_folder(folder.string());
}

void write_parts(const TrainedModel& model, const fs::path& folder, const std::string& title,
                 at::ScalarType dtype, uint64_t shard_bytes) {
  const Expert trained = model.pair.trained;
  write_transformer(*model.transformer, folder / folder_of(trained), dtype, shard_bytes);
  if (trained != Expert::none) {
    if (!model.pair.other) {
      throw ConfigError(text("run ", model.provenance.run,
                             " trained one expert, and model.import "
                             "names one file, not the pair: --format comfyui writes it"));
    }
    write_transformer(*model.pair.other, folder / folder_of(other_expert(trained)), dtype,
                      shard_bytes);
  }
  model.codec->write_weights((folder / kCodecFolder).string());
  write_encoders(model, folder.string(), shard_bytes);
  publish_text((folder / "README.md").string(), model_card(model, title));
  nlohmann::json record = model_record(model, dtype);
  // Files that were completed or renamed have a key of their own; check_reloaded() proves that they
  // hold the same encoders.
  record["text_encoder"]["key"] = text_encoder_in(model.text_config, folder)->key();
  if (model.image_encoder)
    record["image_encoder"]["key"] = image_encoder_in(model.image_config, folder)->key();
  publish_text((folder / kRecordFile).string(), record.dump(2) + "\n");
  sync_folder(folder.string());
}

void require_first_frame(const TrainedModel& model, const std::string& path) {
  const int beside = model.architecture.condition_channels();
  if ((model.first_frame == FirstFrame::channels) == (beside > 0)) return;
  throw DataError(text(path, ": image_to_video does not fit the transformer, which takes ", beside,
                       " channels beside the latent"));
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
    TrainedModel reloaded = load_export(unfinished.path.string());
    check_reloaded(model, reloaded, dtype, target.string(), unfinished.path.string());
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
  const fs::path transformer = base / folder_of(model.pair.trained);
  const std::string config_path = (transformer / "config.json").string();
  model.architecture = read_diffusers_config(read_json(config_path), config_path);
  require_first_frame(model, record_path);
  model.transformer = load_transformer(model.architecture, transformer.string());
  if (model.pair.trained != Expert::none) {
    const char* other = folder_of(other_expert(model.pair.trained));
    model.pair.other = load_transformer(model.architecture, (base / other).string());
  }
  if (model.codec_config.kind == "wan") model.codec_config.weights = (base / kCodecFolder).string();
  model.codec = make_codec(model.codec_config);
  model.text_config.weights = (base / kTextFolder).string();
  model.text_encoder = text_encoder_in(model.text_config, base);
  model.image_config.weights = (base / kImageFolder).string();
  model.image_encoder = image_encoder_in(model.image_config, base);
  if (model.image_encoder)
    require_key(record, "image_encoder", model.image_encoder->key(), record_path);
  require_key(record, "codec", model.codec->describe()["key"], record_path);
  require_key(record, "text_encoder", model.text_encoder->key(), record_path);
  return model;
}

}  // namespace pendulum
