// Links, copies, and the JSON that single files of weights come without.
#include "export/encoder_files.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/publish.h"
#include "embed/clip_vision.h"
#include "embed/t5_vocabulary.h"
#include "embed/umt5_weights.h"
#include "safetensors/sharded.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kTokenizerFolder[] = "tokenizer";
constexpr char kProcessorFolder[] = "image_processor";
constexpr char kStem[] = "model";  // transformers' name of weights
// CLIPImageProcessor's defaults, by which clip_pixels() normalises.
constexpr double kMean[] = {0.48145466, 0.4578275, 0.40821073};
constexpr double kDeviation[] = {0.26862954, 0.26130258, 0.27577711};

void write_json(const fs::path& path, const json& content) {
  fs::create_directories(path.parent_path());
  publish_text(path.string(), content.dump(2) + "\n");
}

void take(const TakenFile& file, const fs::path& folder) {
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

// Those of one folder of the export.
std::vector<TakenFile> files_in(const std::vector<TakenFile>& files, const std::string& folder) {
  std::vector<TakenFile> found;
  for (const TakenFile& file : files) {
    if (fs::path(file.name).parent_path() == folder) found.push_back(file);
  }
  return found;
}

// What opens weights again: their folder where there is a config.json, else their index or their
// one file, which come first.
std::string place_of(const std::vector<TakenFile>& weights) {
  check(!weights.empty(), "an encoder with files");
  const fs::path first = weights.front().path;
  return first.filename() == "config.json" ? first.parent_path().string() : first.string();
}

// A single file and an index under the names by which transformers finds them; the index names the
// shards.
void take_under_transformers_names(const std::vector<TakenFile>& weights, const fs::path& folder) {
  bool has_index = false;
  for (TakenFile file : weights) {
    const fs::path name(file.name);
    const bool is_index = name.filename() != "config.json" && name.extension() == ".json";
    const bool is_single = name.extension() == ".safetensors" && !has_index;
    if (is_index)
      file.name = (name.parent_path() / (std::string(kStem) + ".safetensors.index.json")).string();
    if (is_single)
      file.name = (name.parent_path() / (std::string(kStem) + ".safetensors")).string();
    has_index = has_index || is_index;
    take(file, folder);
  }
}

json umt5_json(const Umt5Config& config) {
  return {{"architectures", {"UMT5EncoderModel"}},
          {"model_type", "umt5"},
          {"is_encoder_decoder", true},
          {"feed_forward_proj", "gated-gelu"},
          {"vocab_size", config.vocabulary},
          {"d_model", config.width},
          {"num_heads", config.heads},
          {"d_kv", config.head_width},
          {"d_ff", config.inner},
          {"num_layers", config.layers},
          {"relative_attention_num_buckets", config.buckets},
          {"relative_attention_max_distance", config.max_distance},
          {"layer_norm_epsilon", config.eps}};
}

// A vocabulary inside the weights is the one that is read, whatever lies beside them.
void take_tokenizer(const Umt5Weights& weights, const std::vector<TakenFile>& beside,
                    const fs::path& base) {
  const fs::path folder = base / kTokenizerFolder;
  fs::create_directories(folder);
  const std::string embedded = weights.embedded_tokenizer();
  if (!embedded.empty()) publish_text((folder / "spiece.model").string(), embedded);
  if (embedded.empty()) {
    for (const TakenFile& file : beside) take(file, base);
  }
  if (fs::exists(folder / "tokenizer_config.json")) return;
  json config{{"tokenizer_class", "T5Tokenizer"},
              {"eos_token", "</s>"},
              {"unk_token", "<unk>"},
              {"pad_token", "<pad>"}};
  // tokenizer.json lists the sentinels itself.
  if (!fs::exists(folder / "tokenizer.json")) config["extra_ids"] = kUmt5Sentinels;
  write_json(folder / "tokenizer_config.json", config);
}

bool has_original_names(const std::string& place) {
  const ShardedSafetensors tensors = ShardedSafetensors::open(place);
  return !tensors.contains("shared.weight") && !tensors.contains("encoder.embed_tokens.weight");
}

json clip_json(const ClipVisionConfig& config) {
  return {{"architectures", {"CLIPVisionModel"}}, {"model_type", "clip_vision_model"},
          {"hidden_size", config.width},          {"intermediate_size", config.inner},
          {"num_hidden_layers", config.layers},   {"num_attention_heads", config.heads},
          {"image_size", config.image},           {"patch_size", config.patch},
          {"hidden_act", config.activation},      {"layer_norm_eps", config.eps}};
}

}  // namespace

void take_text_encoder(const TextEncoder& encoder, const std::string& folder) {
  for (const TakenFile& file : encoder.files()) take(file, folder);
}

void take_umt5_encoder(const TextEncoder& encoder, const std::string& folder,
                       uint64_t shard_bytes) {
  const fs::path text_folder = fs::path(folder) / kTextFolder;
  const std::vector<TakenFile> files = encoder.files(), stored = files_in(files, kTextFolder);
  const Umt5Weights weights = Umt5Weights::open(place_of(stored));
  take_tokenizer(weights, files_in(files, kTokenizerFolder), folder);
  if (has_original_names(place_of(stored))) {
    NamedTensors renamed;
    for (const std::string& name : weights.names()) renamed.emplace_back(name, weights.map(name));
    fs::create_directories(text_folder);
    write_sharded_safetensors(text_folder.string(), kStem, renamed, shard_bytes,
                              {{"format", "pt"}});
  } else {
    take_under_transformers_names(stored, folder);
  }
  if (!fs::exists(text_folder / "config.json"))
    write_json(text_folder / "config.json", umt5_json(weights.config()));
}

void take_image_encoder(const ClipImageEncoder& encoder, const std::string& folder) {
  const std::vector<TakenFile> files = encoder.files();
  const ClipVisionConfig config = ClipVision(place_of(files)).config();
  take_under_transformers_names(files, folder);
  const fs::path named = fs::path(folder) / kImageFolder / "config.json";
  if (!fs::exists(named)) write_json(named, clip_json(config));
  write_json(fs::path(folder) / kProcessorFolder / "preprocessor_config.json",
             {{"image_processor_type", "CLIPImageProcessor"},
              {"do_convert_rgb", true},
              {"do_resize", true},
              {"size", {{"shortest_edge", config.image}}},
              {"resample", 3},  // bicubic
              {"do_center_crop", true},
              {"crop_size", {{"height", config.image}, {"width", config.image}}},
              {"do_rescale", true},
              {"rescale_factor", 1.0 / 255},
              {"do_normalize", true},
              {"image_mean", kMean},
              {"image_std", kDeviation}});
}

}  // namespace pendulum
