// Field by field between WanConfig and diffusers' names.
#include "model/diffusers_config.h"

#include <algorithm>

#include "core/error.h"
#include "core/json_fields.h"

namespace pendulum {
namespace {

constexpr char kClass[] = "WanTransformer3DModel";
constexpr char kQueryKeyNorm[] = "rms_norm_across_heads";
// The release against which the test suite checks the export; diffusers only informs with it.
constexpr char kDiffusersVersion[] = "0.42.0";

struct SizeField {
  const char* name;
  int WanConfig::*member;
  int least, most;  // what a transformer can have; the upper ends only bound what a damaged file
                    // can ask for
};
constexpr int kMostLayers = 1000, kMostSize = 1 << 20;
constexpr SizeField kSizes[] = {
    {"num_layers", &WanConfig::layers, 1, kMostLayers},
    {"num_attention_heads", &WanConfig::heads, 1, kMostLayers},
    {"attention_head_dim", &WanConfig::head_dim, 6, kMostLayers},
    {"ffn_dim", &WanConfig::ffn_dim, 1, kMostSize},
    {"freq_dim", &WanConfig::freq_dim, 2, kMostSize},
    {"in_channels", &WanConfig::in_channels, 1, kMostSize},
    {"out_channels", &WanConfig::out_channels, 1, kMostSize},
    {"text_dim", &WanConfig::text_dim, 1, kMostSize},
};
constexpr int kMostPatch = 64;

// Size that may be absent or null: 0.
int optional_size(const JsonFields& fields, const char* name) {
  return fields.has(name) ? fields.whole(name, 1, kMostSize) : 0;
}

// Image states reach the blocks as wide as the model itself.
void read_image_fields(const JsonFields& fields, WanConfig* config) {
  config->image_dim = optional_size(fields, "image_dim");
  config->image_positions = optional_size(fields, "pos_embed_seq_len");
  const int added = optional_size(fields, "added_kv_proj_dim");
  const int wanted = config->image_dim > 0 ? config->dim() : 0;
  if (added != wanted) {
    throw DataError(text(fields.path(), ": added_kv_proj_dim is ", added, ": expected ", wanted,
                         config->image_dim > 0 ? ", the model's width" : " without image_dim"));
  }
  if (config->image_positions > 0 && config->image_dim == 0)
    throw DataError(text(fields.path(), ": pos_embed_seq_len is set without image_dim"));
}

}  // namespace

nlohmann::json diffusers_config(const WanConfig& config) {
  nlohmann::json json{{"_class_name", kClass},        {"_diffusers_version", kDiffusersVersion},
                      {"patch_size", config.patch},   {"cross_attn_norm", config.cross_attn_norm},
                      {"qk_norm", kQueryKeyNorm},     {"eps", config.eps},
                      {"image_dim", nullptr},         {"added_kv_proj_dim", nullptr},
                      {"pos_embed_seq_len", nullptr}, {"rope_max_seq_len", 1024}};
  for (const SizeField& size : kSizes) json[size.name] = config.*size.member;
  if (config.image_dim > 0) {
    json["image_dim"] = config.image_dim;
    json["added_kv_proj_dim"] = config.dim();
  }
  if (config.image_positions > 0) json["pos_embed_seq_len"] = config.image_positions;
  return json;
}

WanConfig read_diffusers_config(const nlohmann::json& json, const std::string& path) {
  const JsonFields fields(json, path);
  fields.one_of("_class_name", {kClass});
  fields.one_of("qk_norm", {kQueryKeyNorm});
  WanConfig config;
  for (const SizeField& size : kSizes)
    config.*size.member = fields.whole(size.name, size.least, size.most);
  // Rotations and the time's cosines come in pairs.
  if (config.head_dim % 2 != 0) fields.fail("attention_head_dim", "an even number");
  if (config.freq_dim % 2 != 0) fields.fail("freq_dim", "an even number");
  read_image_fields(fields, &config);
  const std::vector<int> patch = fields.whole_list("patch_size", 1, kMostPatch);
  if (patch.size() != config.patch.size()) fields.fail("patch_size", "three whole numbers");
  std::copy(patch.begin(), patch.end(), config.patch.begin());
  config.eps = fields.number("eps");
  if (!(config.eps > 0)) fields.fail("eps", "a number above 0");
  config.cross_attn_norm = fields.flag("cross_attn_norm");
  return config;
}

}  // namespace pendulum
