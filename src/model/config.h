// The dimensions of a Wan video transformer, and the published ones by name.
#pragma once
#include <array>

#include "config/config.h"
#include "embed/conditions.h"

namespace pendulum {

// Fields are those of diffusers' WanTransformer3DModel under shorter names.
struct WanConfig {
  int layers = 0;
  int heads = 0;
  int head_dim = 0;
  int ffn_dim = 0;
  int freq_dim = 0;  // numbers in the sinusoidal code of the time
  int in_channels = 0;
  int out_channels = 0;
  int text_dim = 0;
  int image_dim = 0;  // width of the image states that blocks attend to beside the text; 0: none
  int image_positions =
      0;  // states that have a learnt position (first and last frame); 0: none have
  std::array<int, 3> patch{1, 2, 2};  // latent pixels per token: time, height, width
  bool cross_attn_norm = true;
  double eps = 1e-6;  // of every norm

  int dim() const { return heads * head_dim; }
  // Input channels beside the noisy latent: which frames are given, and these frames (image to
  // video).
  int condition_channels() const { return in_channels - out_channels; }
};

// What stands around the model and decides some of its dimensions: codec and encoders.
struct ModelInputs {
  int latent_channels = 0;
  int text_dim = 0;
  int temporal = 4;   // frames in a latent frame, each with a mask channel
  int image_dim = 0;  // 0: there is no image encoder
};

// With model.import the dimensions of the model found there. Else the preset with the fields that
// `model` sets laid over it. Presets: wan-tiny (ours, 1.3 M parameters), and the published
// wan-2.1-1.3b, wan-2.1-14b, wan-2.2-5b. ConfigError for an unknown preset, and for dimensions that
// cannot work or are not those of the imported model: they name the key.
WanConfig wan_config(const ModelConfig& model, const ModelInputs& inputs);

// How this model is given first frames: model.image_to_video, with `auto` resolved.
FirstFrame first_frame_of(const ModelConfig& model, const WanConfig& config);

}  // namespace pendulum
