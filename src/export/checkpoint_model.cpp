// A trained model out of a checkpoint: the run's configuration, its weights, and where it stood.
#include <filesystem>
#include <map>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_store.h"
#include "core/error.h"
#include "core/log.h"
#include "export/trained_model.h"
#include "model/diffusers_config.h"
#include "model/inputs.h"
#include "model/parameters.h"
#include "model/pretrained.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// `path` itself where it is a checkpoint, else the newest one of the run.
std::string checkpoint_folder(const std::string& path) {
  std::error_code ignored;
  if (fs::is_regular_file(fs::path(path) / "manifest.json", ignored)) return path;
  if (!fs::is_directory(path, ignored)) throw ConfigError(text(path, ": there is no such folder"));
  if (!fs::is_directory(fs::path(path) / "checkpoints", ignored)) {
    throw ConfigError(text(path, ": is neither a checkpoint nor a run's folder nor an export"));
  }
  const LatestCheckpoint latest = latest_checkpoint(path);
  for (const std::string& note : latest.notes) warn("{}", note);
  if (!latest.folder) throw ConfigError(text(path, ": the run has no complete checkpoint yet"));
  return *latest.folder;
}

// The segment whose weights these are: the one under way, or the one before where none of its steps
// was taken.
std::string last_stage(const nlohmann::json& state) {
  int segment = state.at("segment").get<int>();
  if (segment > 0 && state.at("segment_step").get<int64_t>() == 0) --segment;
  return state.at("plan").at("segments").at(segment).at("stage").get<std::string>();
}

// All weights; where there is a moving average it holds what was trained, and the rest is as it
// was.
std::map<std::string, at::Tensor> weights_of(const CheckpointContents& contents, bool is_average) {
  const NamedTensors& trained = contents.tensors.at("model");
  std::map<std::string, at::Tensor> weights(trained.begin(), trained.end());
  if (!is_average) return weights;
  for (const auto& [name, tensor] : contents.tensors.at("ema")) weights[name] = tensor;
  return weights;
}

// A checkpoint of adapters lacks the weights they stand beside.
void load_base(const nlohmann::json& state, const Config& config, VideoTransformer& transformer) {
  PretrainedTransformer::open(transformer_place(config.model)).load_into(transformer);
  if (fingerprint(transformer.parameters()) != state.at("base").get<std::string>()) {
    throw DataError(text("the weights in ", config.model.import,
                         " are not those beside which its adapters were trained"));
  }
  transformer.add_adapters(config.lora, config.run.seed);
}

// The expert that did not train, where the import holds it.
Pair pair_of(const Config& config, const WanConfig& architecture) {
  Pair pair{parse_expert(config.model.expert), 0, nullptr};
  if (pair.trained == Expert::none) return pair;
  pair.boundary = expert_boundary(config.model.import, architecture);
  if (has_pair(config.model.import)) {
    pair.other = load_transformer(
        architecture, transformer_place(config.model.import, other_expert(pair.trained)));
  }
  return pair;
}

TrainedModel model_of(const CheckpointContents& contents, bool is_raw) {
  const nlohmann::json& state = contents.state;
  const Config config =
      parse_config(state.at("config").get<std::string>(), "the checkpoint's configuration");
  const bool is_average = !is_raw && contents.tensors.contains("ema");
  TrainedModel model;
  model.codec_config = config.codec;
  model.codec = make_codec(config.codec);
  model.text_config = config.text;
  model.text_config.weights = find_text_weights(config.text, default_environments());
  model.text_encoder = make_text_encoder(model.text_config, model.text_config.weights);
  model.image_config = config.image;
  model.image_encoder = make_image_encoder(config.image);
  model.architecture =
      state.contains("architecture")
          ? read_diffusers_config(state["architecture"], "the checkpoint's architecture")
          : wan_config(config.model,
                       model_inputs(*model.codec, *model.text_encoder, model.image_encoder.get()));
  model.first_frame = first_frame_of(config.model, model.architecture);
  model.transformer = std::make_unique<VideoTransformer>(model.architecture, std::nullopt);
  if (config.lora.rank > 0) load_base(state, config, *model.transformer);
  model.transformer->load_trainable(weights_of(contents, is_average));
  model.pair = pair_of(config, model.architecture);
  model.generate = config.generate;
  model.provenance = {.run = config.run.name,
                      .stage = last_stage(state),
                      .step = state.at("finished_steps").get<int64_t>(),
                      .weights = is_average ? "ema" : "raw",
                      .plan_hash = state.at("plan_hash").get<std::string>(),
                      .base = config.lora.rank > 0 ? config.model.import : "",
                      .consumption_head = state.at("consumption_head").get<std::string>(),
                      .consumption_seq = state.value("consumption_seq", int64_t{-1}),
                      .consumption_public_key = state.value("consumption_public_key", ""),
                      .consumption_signature = state.value("consumption_signature", "")};
  for (const auto& origin : state.value("origins", nlohmann::json::array()))
    model.provenance.origins.push_back(origin_from_json(origin, "the checkpoint's origins"));
  for (const StageConfig& stage : config.stages) {
    if (stage.name != model.provenance.stage) continue;
    model.shape = stage.shape;
    model.objective = stage.objective;
  }
  check(model.shape.height > 0,
        "the stage of the checkpoint in its configuration: ", model.provenance.stage);
  return model;
}

}  // namespace

TrainedModel load_checkpoint_model(const std::string& path, bool is_raw) {
  const std::string folder = checkpoint_folder(path);
  const CheckpointContents contents = load_checkpoint(folder);
  try {
    return model_of(contents, is_raw);
  } catch (const nlohmann::json::exception& error) {
    throw DataError(text(folder, ": its state is not that of a training run: ", error.what()));
  } catch (const std::out_of_range&) {
    throw DataError(text(folder, ": holds no trained model"));
  } catch (const DataError& error) {
    throw DataError(text(folder, ": ", error.what()));
  }
}

}  // namespace pendulum
