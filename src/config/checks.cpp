// What must hold between keys of a configuration: sources that exist, lengths, shapes, batches.
#include <cmath>
#include <regex>
#include <set>

#include "config/document.h"
#include "config/nearest.h"
#include "config/reader.h"
#include "core/error.h"

namespace pendulum {
namespace {

bool is_power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

template <class T>
std::vector<std::string> keys_of(const std::map<std::string, T>& entries) {
  std::vector<std::string> out;
  for (const auto& [key, entry] : entries) out.push_back(key);
  return out;
}

class Checks {
 public:
  Checks(const Config& config, const Value& root) : config_(config), root_(root) {}

  void all() const {
    stage_names();
    codec_and_model();
    adapters();
    frozen_weights();
    encoders();
    first_frames();
    lengths();
    for (const StageConfig& stage : config_.stages) {
      sources(stage);
      batches(stage);
      shapes(stage);
      objective(stage.objective, at(stage, "objective"));
      optimizer(stage);
    }
    objective(config_.objective, "objective");
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const std::string& path, const Parts&... message) const {
    fail(place_of(root_, path), path, text(message...));
  }

  static std::string at(const StageConfig& stage, const std::string& key) {
    return "stages." + stage.name + "." + key;
  }

  // First: every later message names a stage by its name.
  void stage_names() const {
    std::set<std::string> names;
    for (size_t i = 0; i < config_.stages.size(); ++i) {
      const std::string& name = config_.stages[i].name;
      if (names.insert(name).second) continue;
      refuse(text("stages.", i, ".name"), "\"", name, "\" is the name of an earlier stage");
    }
  }

  void codec_and_model() const {
    config_.codec.kind == "wan" ? wan_codec() : haar_codec();
    const ModelConfig& model = config_.model;
    if (!model.patch.empty() && model.patch[0] != 1) {
      refuse("model.patch.0", "expected 1, found ", model.patch[0],
             ": a still has a single latent frame");
    }
    if (model.offload != "none" && model.activation_checkpointing == "none") {
      refuse("model.offload", model.offload,
             " goes with activation_checkpointing: selective or full; none keeps more "
             "than blocks' inputs");
    }
    try {
      const std::regex compiled(model.trainable);
    } catch (const std::regex_error& error) {
      refuse("model.trainable", "not a regular expression, \"", model.trainable,
             "\": ", error.what());
    }
  }

  void adapters() const {
    const LoraConfig& lora = config_.lora;
    if (lora.rank == 0) return;
    if (config_.model.import.empty()) {
      refuse("lora.rank", "adapters stand beside trained weights: name them in model.import");
    }
    if (config_.model.trainable != ModelConfig{}.trainable) {
      refuse("model.trainable", "the adapters alone train where lora.rank is set; leave it out");
    }
  }

  void frozen_weights() const {
    const ModelConfig& model = config_.model;
    if (config_.lora.rank == 0 && model.frozen_precision != ModelConfig{}.frozen_precision) {
      refuse("model.frozen_precision",
             "is for the weights beside which lora trains: set lora.rank, or leave it out");
    }
    if (config_.lora.rank == 0 && model.swap_blocks > 0) {
      refuse("model.swap_blocks",
             "is for the weights beside which lora trains: set lora.rank, or leave it out");
    }
    if (model.expert != "none" && model.import.empty())
      refuse("model.expert", model.expert, " is one of a pair: name the pair in model.import");
    if (model.expert == "none") return;
    const bool draws = !config_.generate.prompts.empty();
    if (draws && config_.run.sample.kind != Every::Kind::never) {
      refuse("run.sample",
             "one expert of a pair cannot draw alone: set it to never; `pendulum "
             "sample` draws with both");
    }
    if (config_.run.evaluate.kind != Every::Kind::never)
      refuse("run.evaluate", "one expert of a pair cannot draw alone: set it to never");
  }

  void first_frames() const {
    const ModelConfig& model = config_.model;
    const GenerateConfig& generate = config_.generate;
    if (model.image_to_video == "none" && config_.image.kind != "none")
      refuse("image.kind", "model.image_to_video is none, so that this would have no effect");
    if (model.image_to_video == "first-latent" && !model.per_token_time)
      refuse("model.image_to_video", "first-latent needs model.per_token_time: true");
    if (!generate.images.empty() && generate.images.size() != generate.prompts.size()) {
      refuse("generate.images", "expected one for each of generate.prompts, ",
             generate.prompts.size(), ", found ", generate.images.size());
    }
  }

  void haar_codec() const {
    const auto [spatial, temporal] = factors();
    if (!is_power_of_two(spatial))
      refuse("codec.spatial", "expected a power of two, found ", spatial);
    if (!is_power_of_two(temporal))
      refuse("codec.temporal", "expected a power of two, found ", temporal);
    if (config_.codec.drop > std::log2(spatial)) {
      refuse("codec.drop", "expected at most ", std::log2(spatial), ", the bands of codec.spatial ",
             spatial, ", found ", config_.codec.drop);
    }
    if (!config_.codec.weights.empty())
      refuse("codec.weights", "codec.kind haar has none; leave the key out");
  }

  void wan_codec() const {
    const CodecConfig& codec = config_.codec;
    for (const auto& [key, value] :
         {std::pair{"codec.spatial", codec.spatial}, std::pair{"codec.temporal", codec.temporal},
          std::pair{"codec.drop", codec.drop}}) {
      if (value != 0)
        refuse(key, "found ", value,
               ": codec.kind wan has what its weights say; leave the key out");
    }
    if (codec.weights.empty())
      refuse("codec", "weights: missing, and required for codec.kind wan: path/to/vae");
    if (codec.tile % 16 != 0)
      refuse("codec.tile", "expected a multiple of 16 pixels, found ", codec.tile);
  }

  // (spatial, temporal) of the codec. Wan's follow from its weights, which are not read here; what
  // all its variants have in common can be checked.
  std::pair<int, int> factors() const {
    const CodecConfig& codec = config_.codec;
    if (codec.kind == "wan") return {8, 4};
    return {codec.spatial == 0 ? kHaarFactor : codec.spatial,
            codec.temporal == 0 ? kHaarFactor : codec.temporal};
  }

  void encoders() const {
    if (config_.text.kind == "umt5" && config_.text.weights == "auto") {
      refuse("text.weights",
             "umt5 comes with no package; name a diffusers folder or a safetensors file");
    }
    const ImageConfig& image = config_.image;
    if (image.kind == "none" && !image.weights.empty())
      refuse("image.weights", "image.kind is none, so that this would have no effect");
    if (image.kind != "none" && image.weights.empty())
      refuse("image.weights", "missing, and required where image.kind is ", image.kind);
  }

  // Exactly one of compute and steps in each stage; shares that sum to the whole.
  void lengths() const {
    double sum = 0;
    size_t shares = 0;
    for (const StageConfig& stage : config_.stages) {
      const bool has_compute = stage.compute > 0, has_steps = stage.steps > 0;
      const std::string path = "stages." + stage.name;
      if (has_compute && has_steps)
        refuse(at(stage, "steps"), "a stage has either compute or steps, found both");
      if (!has_compute && !has_steps)
        refuse(path, "a stage has either compute or steps, found neither");
      sum += stage.compute;
      shares += has_compute;
    }
    if (shares > 0 && config_.total_flops == 0) {
      refuse("total_flops",
             "missing, and required where stages have compute: for example total_flops: 20 TFLOP");
    }
    if (shares == 0 && config_.total_flops > 0) {
      refuse("total_flops",
             "no stage has compute, so that this would have no effect; leave it out");
    }
    const bool all = shares == config_.stages.size();
    constexpr double kSlack = 1e-6;
    if (all && !(std::abs(sum - 1) <= kSlack)) {
      refuse("stages", "the stages' shares of compute sum to ", sum, ", expected 1");
    }
    if (!(sum <= 1 + kSlack))
      refuse("stages", "the stages' shares of compute sum to ", sum, ", expected at most 1");
  }

  void sources(const StageConfig& stage) const {
    const std::vector<std::string> known = keys_of(config_.sources);
    double sum = 0;
    for (const auto& [name, weight] : stage.sources) {
      sum += weight;
      if (config_.sources.contains(name)) continue;
      refuse(at(stage, "sources." + name), "no such source", did_you_mean(name, known),
             " (valid: ", listed(known), ")");
    }
    if (!(sum > 0)) refuse(at(stage, "sources"), "every weight is 0, expected one above 0");
  }

  void batches(const StageConfig& stage) const {
    const std::vector<std::string> known = keys_of(stage.sources);
    for (const auto& [key, entries] :
         {std::pair{"batch", &stage.batch}, std::pair{"width", &stage.width}}) {
      for (const auto& [name, number] : *entries) {
        if (stage.sources.contains(name)) continue;
        refuse(at(stage, text(key, ".", name)), "not a source of this stage",
               did_you_mean(name, known), " (valid: ", listed(known), ")");
      }
    }
    for (const auto& [name, width] : stage.width) {
      if (config_.mesh.slot % width != 0) {
        refuse(at(stage, "width." + name), "expected a divisor of mesh.slot, ", config_.mesh.slot,
               ", found ", width);
      }
    }
    if (config_.mesh.beat.is_set()) return;
    for (const auto& [name, weight] : stage.sources) {
      if (weight == 0 || stage.batch.contains(name)) continue;
      refuse(at(stage, "batch." + name),
             "missing, and required where mesh.beat is not set: for example batch: {", name,
             ": 16}");
    }
  }

  void shapes(const StageConfig& stage) const {
    shape(stage.shape, at(stage, "shape.frames"), at(stage, "shape.size"));
    for (const int frames : stage.buckets.lengths)
      shape({frames, stage.shape.height, stage.shape.width}, at(stage, "shape.frames"),
            at(stage, "shape.size"));
    if (stage.buckets.min_frames > stage.shape.frames) {
      refuse(at(stage, "shape.min_frames"), "expected at most shape.frames, ", stage.shape.frames,
             ", found ", stage.buckets.min_frames, ": every clip would be refused");
    }
    const std::vector<std::string> known = keys_of(stage.sources);
    for (const auto& [name, own] : stage.shapes) {
      const std::string path = at(stage, "shapes." + name);
      if (!stage.sources.contains(name)) {
        refuse(path, "not a source of this stage", did_you_mean(name, known),
               " (valid: ", listed(known), ")");
      }
      shape(own, path, path);
    }
  }

  void shape(const Shape& shape, const std::string& frames_path,
             const std::string& size_path) const {
    const auto [codec_spatial, codec_temporal] = factors();
    const int temporal = std::max(4, codec_temporal);
    if ((shape.frames - 1) % temporal != 0) {
      refuse(frames_path, "expected ", temporal, "k+1 frames (1, ", temporal + 1, ", ",
             2 * temporal + 1, ", ...), found ", shape.frames);
    }
    const std::vector<int>& patch = config_.model.patch;
    const int patch_height = patch.empty() ? 2 : patch[1],
              patch_width = patch.empty() ? 2 : patch[2];
    const int height = codec_spatial * patch_height, width = codec_spatial * patch_width;
    if (shape.height % height != 0 || shape.width % width != 0) {
      refuse(size_path, "expected height and width to be multiples of ", height, " and ", width,
             " (codec.spatial ", codec_spatial, " x patch ", patch_height, "x", patch_width,
             "), found ", shape.height, "x", shape.width);
    }
  }

  void objective(const ObjectiveConfig& objective, const std::string& path) const {
    if (objective.per_token && !config_.model.per_token_time) {
      refuse(path + ".per_token", "needs model.per_token_time: true");
    }
    const std::vector<double>& range = objective.time_range;
    if (!(range[0] < range[1])) {
      refuse(path + ".time_range", "expected the smaller end first, found [", range[0], ", ",
             range[1], "]");
    }
  }

  // The optimiser's state is handed from stage to stage.
  void optimizer(const StageConfig& stage) const {
    if (stage.optim.kind != config_.optim.kind) {
      refuse(at(stage, "optim.kind"), "expected ", config_.optim.kind,
             ", the kind of the whole run, found ", stage.optim.kind);
    }
    if (stage.optim.ema_memory != config_.optim.ema_memory) {
      refuse(at(stage, "optim.ema_memory"), "expected ", config_.optim.ema_memory,
             ", where the whole run has it, found ", stage.optim.ema_memory);
    }
  }

  const Config& config_;
  const Value& root_;
};

}  // namespace

void check_config(const Config& config, const Value& root) { Checks(config, root).all(); }

}  // namespace pendulum
