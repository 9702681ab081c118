// Field by field between WanVaeConfig and diffusers' names.
#include "embed/wan_vae_config.h"

#include <algorithm>

#include "core/error.h"
#include "core/json_fields.h"

namespace pendulum {
namespace {

constexpr char kClass[] = "AutoencoderKLWan";
constexpr char kDiffusersVersion[] = "0.42.0";  // the release that the test suite checks against
constexpr int kMostSize = 1 << 16;              // only bounds what a damaged file can ask for

// Of the published vae/config.json files.
constexpr double kMean21[] = {-0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,
                              -0.1517, 1.5508,  0.4134,  -0.0715, 0.5517,  -0.3632,
                              -0.1922, -0.9497, 0.2503,  -0.2921};
constexpr double kStd21[] = {2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                             3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160};
constexpr double kMean22[] = {
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174,  0.1838,  0.1557,  -0.1382, 0.0542,
    0.2813,  0.0891,  0.1570,  -0.0098, 0.0375,  -0.1825, -0.2246, -0.1207, -0.0698, 0.5109,
    0.2665,  -0.2108, -0.2158, 0.2502,  -0.2055, -0.0322, 0.1109,  0.1567,  -0.0729, 0.0899,
    -0.2799, -0.1230, -0.0313, -0.1649, 0.0117,  0.0723,  -0.2839, -0.2083, -0.0520, 0.3748,
    0.0152,  0.1957,  0.1433,  -0.2944, 0.3573,  -0.0548, -0.1681, -0.0667};
constexpr double kStd22[] = {
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744};

// `count` values, each of the kind that `is_one` says; `expected` tells it in words.
template <class T>
std::vector<T> list_of(const JsonFields& fields, const std::string& key, size_t count,
                       bool (nlohmann::json::*is_one)() const, const std::string& expected) {
  const nlohmann::json& list = fields.at(key);
  const bool is_such = list.is_array() && list.size() == count &&
                       std::all_of(list.begin(), list.end(),
                                   [&](const nlohmann::json& value) { return (value.*is_one)(); });
  if (!is_such) fields.fail(key, expected);
  return list.get<std::vector<T>>();
}

std::vector<bool> flags(const JsonFields& fields, const std::string& key, size_t count) {
  return list_of<bool>(fields, key, count, &nlohmann::json::is_boolean,
                       text("a list of ", count, ", each true or false"));
}

// One for each channel of a latent.
std::vector<double> numbers(const JsonFields& fields, const std::string& key, size_t channels) {
  return list_of<double>(fields, key, channels, &nlohmann::json::is_number,
                         text("a list of ", channels, " numbers, as many as z_dim says"));
}

}  // namespace

int WanVaeConfig::spatial() const { return patch << (dim_mult.size() - 1); }

int WanVaeConfig::temporal() const {
  return 1 << std::count(temporal_downsample.begin(), temporal_downsample.end(), true);
}

bool set_published_statistics(WanVaeConfig& config) {
  if (config.z_dim == 16) {
    config.latents_mean.assign(std::begin(kMean21), std::end(kMean21));
    config.latents_std.assign(std::begin(kStd21), std::end(kStd21));
  } else if (config.z_dim == 48) {
    config.latents_mean.assign(std::begin(kMean22), std::end(kMean22));
    config.latents_std.assign(std::begin(kStd22), std::end(kStd22));
  } else {
    return false;
  }
  return true;
}

WanVaeConfig read_wan_vae_config(const nlohmann::json& json, const std::string& path) {
  const JsonFields fields(json, path);
  fields.one_of("_class_name", {kClass});
  const auto size = [&](const char* key) { return fields.whole(key, 1, kMostSize); };
  // What older configurations leave out has a value that it then means.
  const auto size_or = [&](const char* key, int missing) {
    return fields.has(key) ? size(key) : missing;
  };
  WanVaeConfig config;
  config.base_dim = size("base_dim");
  config.decoder_base_dim = size_or("decoder_base_dim", config.base_dim);
  config.z_dim = size("z_dim");
  config.dim_mult = fields.whole_list("dim_mult", 1, kMostSize);
  if (config.dim_mult.empty() || config.dim_mult.size() > 6)
    fields.fail("dim_mult", "1 to 6 levels");
  config.num_res_blocks = size("num_res_blocks");
  config.temporal_downsample = flags(fields, "temperal_downsample", config.dim_mult.size() - 1);
  config.is_residual = fields.has("is_residual") && fields.flag("is_residual");
  if (fields.has("patch_size")) config.patch = fields.whole("patch_size", 1, 8);
  for (const char* channels : {"in_channels", "out_channels"}) {
    if (size_or(channels, 3) != config.channels())
      fields.fail(channels, text(config.channels(), ", three for each pixel of a patch"));
  }
  if (fields.has("attn_scales") && !fields.at("attn_scales").empty())
    fields.fail("attn_scales", "none: attention between the levels is not supported");
  config.latents_mean = numbers(fields, "latents_mean", config.z_dim);
  config.latents_std = numbers(fields, "latents_std", config.z_dim);
  if (!std::all_of(config.latents_std.begin(), config.latents_std.end(),
                   [](double s) { return s > 0; }))
    fields.fail("latents_std", "numbers above 0");
  return config;
}

nlohmann::json wan_vae_config_json(const WanVaeConfig& config) {
  nlohmann::json json{{"_class_name", kClass},
                      {"_diffusers_version", kDiffusersVersion},
                      {"base_dim", config.base_dim},
                      {"decoder_base_dim", config.decoder_base_dim},
                      {"z_dim", config.z_dim},
                      {"dim_mult", config.dim_mult},
                      {"num_res_blocks", config.num_res_blocks},
                      {"attn_scales", nlohmann::json::array()},
                      {"temperal_downsample", config.temporal_downsample},
                      {"dropout", 0.0},
                      {"latents_mean", config.latents_mean},
                      {"latents_std", config.latents_std},
                      {"is_residual", config.is_residual},
                      {"in_channels", config.channels()},
                      {"out_channels", config.channels()},
                      {"patch_size", nullptr},
                      {"scale_factor_temporal", config.temporal()},
                      {"scale_factor_spatial", config.spatial()}};
  if (config.patch > 1) json["patch_size"] = config.patch;
  return json;
}

}  // namespace pendulum
