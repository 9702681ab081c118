// The index names a class and its library for every part.
#include "export/pipeline_folder.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/publish.h"
#include "model/diffusers_config.h"
#include "objective/flow_matching.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Of all schedulers of diffusers the one whose times are ours to the last bit, for any number of
// steps: linspace(1, 0, n + 1) bent by the shift, and Euler's steps between them.
// FlowMatchEulerDiscreteScheduler places its last time at 0.001 and bends twice, UniPC rounds times
// to whole numbers.
constexpr char kScheduler[] = "FlowMapEulerDiscreteScheduler";

// What transformer_wan.py takes for the length of captions where it parts them from image states.
constexpr int kLengthBesideImages = 512;

bool is_image_to_video(const TrainedModel& model) {
  return model.architecture.condition_channels() > 0 || model.architecture.image_dim > 0;
}

bool is_wan_codec(const CodecConfig& codec) { return codec.kind == "wan"; }
bool is_wan_text(const TextConfig& config) { return config.kind == "umt5"; }

json from(const char* library, const char* name) { return json::array({library, name}); }
json absent() { return json::array({nullptr, nullptr}); }

std::string diffusers_version(const TrainedModel& model) {
  return diffusers_config(model.architecture).at("_diffusers_version").get<std::string>();
}

json pipeline_index(const TrainedModel& model) {
  const bool has_pair = model.pair.trained != Expert::none;
  const json transformer = from("diffusers", "WanTransformer3DModel");
  json index{{"_class_name", pipeline_class(model)},
             {"_diffusers_version", diffusers_version(model)},
             {"expand_timesteps", model.first_frame == FirstFrame::latent},
             {"boundary_ratio", has_pair ? json(model.pair.boundary) : json(nullptr)},
             {"scheduler", from("diffusers", kScheduler)},
             {"text_encoder", from("transformers", "UMT5EncoderModel")},
             {"tokenizer", from("transformers", "T5TokenizerFast")},
             {"transformer", transformer},
             {"transformer_2", has_pair ? transformer : absent()},
             {"vae", from("diffusers", "AutoencoderKLWan")}};
  if (!is_image_to_video(model)) return index;
  const bool has_states = model.architecture.image_dim > 0;
  index["image_encoder"] = has_states ? from("transformers", "CLIPVisionModel") : absent();
  index["image_processor"] = has_states ? from("transformers", "CLIPImageProcessor") : absent();
  return index;
}

}  // namespace

std::string pipeline_obstacle(const TrainedModel& model) {
  const bool has_states = model.architecture.image_dim > 0;
  if (!is_wan_codec(model.codec_config))
    return text("its latents are of the codec ", model.codec_config.kind, ", not of Wan's");
  if (!is_wan_text(model.text_config))
    return text("it attends to the text encoder ", model.text_config.kind, ", not to UMT5");
  if (model.objective.predict != "velocity") return "it predicts the clean latent";
  if (has_states && !model.image_encoder) return "it attends to image states of no encoder";
  return caption_obstacle(model.codec_config, model.text_config, has_states);
}

std::string caption_obstacle(const CodecConfig& codec, const TextConfig& config,
                             bool has_image_states) {
  if (!is_wan_codec(codec) || !is_wan_text(config) || !has_image_states) return "";
  if (config.length == kLengthBesideImages) return "";
  return text("it attends to image states beside captions of ", config.length,
              " tokens, and diffusers takes the last ", kLengthBesideImages, " for the caption");
}

std::string pipeline_class(const TrainedModel& model) {
  if (!pipeline_obstacle(model).empty()) return "";
  return is_image_to_video(model) ? "WanImageToVideoPipeline" : "WanPipeline";
}

double pipeline_shift(const TrainedModel& model) {
  if (model.generate.shift) return *model.generate.shift;
  const LatentShape grid = model.codec->latent_shape(model.shape);
  const auto& patch = model.architecture.patch;
  return default_shift(int64_t{1} * (grid.frames / patch[0]) * (grid.height / patch[1]) *
                       (grid.width / patch[2]));
}

void write_pipeline_files(const TrainedModel& model, const std::string& folder) {
  const fs::path scheduler = fs::path(folder) / "scheduler";
  fs::create_directories(scheduler);
  const json config{{"_class_name", kScheduler},
                    {"_diffusers_version", diffusers_version(model)},
                    {"num_train_timesteps", 1000},
                    {"shift", pipeline_shift(model)}};
  publish_text((scheduler / "scheduler_config.json").string(), config.dump(2) + "\n");
  publish_text((fs::path(folder) / "model_index.json").string(),
               pipeline_index(model).dump(2) + "\n");
}

}  // namespace pendulum
