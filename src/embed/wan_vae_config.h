// What distinguishes Wan's VAEs from each other, as the config.json of diffusers' AutoencoderKLWan
// says it.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pendulum {

struct WanVaeConfig {
  int base_dim = 96;
  int decoder_base_dim = 96;
  int z_dim = 16;  // channels of a latent
  std::vector<int> dim_mult{1, 2, 4, 4};
  int num_res_blocks = 2;
  std::vector<bool> temporal_downsample{false, true, true};  // by level, first to last but one
  bool is_residual = false;                                  // Wan 2.2: shortcuts around each level
  int patch = 1;  // pixels to a side that are one input pixel's channels; 2 in Wan 2.2
  // A latent is (z - latents_mean) / latents_std, by channel.
  std::vector<double> latents_mean, latents_std;

  int spatial() const;                                // pixels per latent pixel
  int temporal() const;                               // frames per latent frame
  int channels() const { return 3 * patch * patch; }  // of an input pixel
};

// DataError names `path`, the field, what was found and what was expected.
WanVaeConfig read_wan_vae_config(const nlohmann::json& json, const std::string& path);
// What AutoencoderKLWan.from_pretrained reads.
nlohmann::json wan_vae_config_json(const WanVaeConfig& config);

// Sets the published mean and deviation of Wan 2.1's latents (z_dim 16) or 2.2's (48); false for
// any other z_dim.
bool set_published_statistics(WanVaeConfig& config);

}  // namespace pendulum
