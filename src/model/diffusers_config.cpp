// Field by field between WanConfig and diffusers' names.
#include "model/diffusers_config.h"

#include "core/error.h"

namespace pendulum {
namespace {

constexpr char kClass[] = "WanTransformer3DModel";
constexpr char kQueryKeyNorm[] = "rms_norm_across_heads";
// The release against which the test suite checks the export; diffusers only informs with it.
constexpr char kDiffusersVersion[] = "0.42.0";

struct SizeField {
  const char* name;
  int WanConfig::*member;
  int least, most, multiple;  // what a transformer can have; the upper ends only bound what a
                              // damaged file can ask for
};
constexpr int kMostLayers = 1000, kMostSize = 1 << 20;
constexpr SizeField kSizes[] = {
    {"num_layers", &WanConfig::layers, 1, kMostLayers, 1},
    {"num_attention_heads", &WanConfig::heads, 1, kMostLayers, 1},
    {"attention_head_dim", &WanConfig::head_dim, 6, kMostLayers, 2},
    {"ffn_dim", &WanConfig::ffn_dim, 1, kMostSize, 1},
    {"freq_dim", &WanConfig::freq_dim, 2, kMostSize, 2},
    {"in_channels", &WanConfig::in_channels, 1, kMostSize, 1},
    {"out_channels", &WanConfig::out_channels, 1, kMostSize, 1},
    {"text_dim", &WanConfig::text_dim, 1, kMostSize, 1},
};
constexpr SizeField kPatch{"patch_size", nullptr, 1, 64, 1};

int read_size(const nlohmann::json& value, const SizeField& field, const std::string& path) {
  const bool is_size = value.is_number_integer() && value.get<int64_t>() >= field.least &&
                       value.get<int64_t>() <= field.most &&
                       value.get<int64_t>() % field.multiple == 0;
  if (is_size) return value.get<int>();
  throw DataError(text(path, ": ", field.name, " is ", value.dump(), ": expected ",
                       field.multiple == 2 ? "an even number" : "a whole number", " from ",
                       field.least, " to ", field.most));
}

const nlohmann::json& member(const nlohmann::json& json, const std::string& field,
                             const std::string& path) {
  const auto found = json.find(field);
  if (found == json.end()) throw DataError(text(path, ": the field ", field, " is missing"));
  return *found;
}

// Size that may be absent or null: 0.
int optional_size(const nlohmann::json& json, const char* name, const std::string& path) {
  const auto found = json.find(name);
  if (found == json.end() || found->is_null()) return 0;
  return read_size(*found, {name, nullptr, 1, kMostSize, 1}, path);
}

// Image states reach the blocks as wide as the model itself.
void read_image_fields(const nlohmann::json& json, const std::string& path, WanConfig* config) {
  config->image_dim = optional_size(json, "image_dim", path);
  config->image_positions = optional_size(json, "pos_embed_seq_len", path);
  const int added = optional_size(json, "added_kv_proj_dim", path);
  const int wanted = config->image_dim > 0 ? config->dim() : 0;
  if (added != wanted) {
    throw DataError(text(path, ": added_kv_proj_dim is ", added, ": expected ", wanted,
                         config->image_dim > 0 ? ", the model's width" : " without image_dim"));
  }
  if (config->image_positions > 0 && config->image_dim == 0)
    throw DataError(text(path, ": pos_embed_seq_len is set without image_dim"));
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
  if (!json.is_object()) throw DataError(text(path, ": expected a JSON object"));
  if (member(json, "_class_name", path) != kClass) {
    throw DataError(
        text(path, ": _class_name is ", json["_class_name"].dump(), ": expected ", kClass));
  }
  if (member(json, "qk_norm", path) != kQueryKeyNorm) {
    throw DataError(
        text(path, ": qk_norm is ", json["qk_norm"].dump(), ": expected ", kQueryKeyNorm));
  }
  WanConfig config;
  for (const SizeField& size : kSizes)
    config.*size.member = read_size(member(json, size.name, path), size, path);
  read_image_fields(json, path, &config);
  const nlohmann::json& patch = member(json, "patch_size", path);
  if (!patch.is_array() || patch.size() != 3)
    throw DataError(text(path, ": patch_size is not three integers"));
  for (int axis = 0; axis < 3; ++axis) config.patch[axis] = read_size(patch[axis], kPatch, path);
  const nlohmann::json& eps = member(json, "eps", path);
  if (!eps.is_number() || !(eps.get<double>() > 0))
    throw DataError(text(path, ": eps is not a positive number"));
  config.eps = eps.get<double>();
  const nlohmann::json& norm = member(json, "cross_attn_norm", path);
  if (!norm.is_boolean())
    throw DataError(text(path, ": cross_attn_norm is neither true nor false"));
  config.cross_attn_norm = norm.get<bool>();
  return config;
}

}  // namespace pendulum
