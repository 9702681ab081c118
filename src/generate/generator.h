// Draws clips from a trained network: captions and seeds in, frames out.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/shape.h"
#include "data/frames.h"
#include "embed/codec.h"
#include "embed/first_frame.h"
#include "embed/text_encoder.h"
#include "generate/solver.h"
#include "model/network.h"
#include "objective/flow_matching.h"

namespace pendulum {

// One clip to draw. The noise is a function of the seed alone; an empty caption is drawn without a
// caption.
struct Prompt {
  std::string text;
  uint64_t seed = 0;
  std::string image{};  // file of its first frame, a picture or a video's first; empty: none is
                        // given
};

struct GenerateSettings {
  Solver solver = Solver::ab2;
  int steps = 20;
  double guidance = 3;          // 1: the caption alone, at half the cost
  std::optional<double> shift;  // unset: default_shift of the clip's tokens
  Predict predict = Predict::velocity;
};

// ConfigError for an unknown solver or prediction, no steps, negative guidance or a shift that is
// not positive.
GenerateSettings generate_settings(const GenerateConfig& generate,
                                   const ObjectiveConfig& objective);

// The parts that drawing a clip needs; codec and text encoder must outlive it.
class Generator {
 public:
  Generator(Network network, at::Device device, const Codec& codec, const TextEncoder& text_encoder,
            std::array<int, 3> patch, const GenerateSettings& settings,
            FirstFrameEncoder first_frame = {});

  // One clip per prompt, `batch` at a time. A prompt's clip does not depend on the others, except
  // for the rounding of matrix products whose size is the batch's. ConfigError for an image that
  // cannot be read, or that the model cannot be given.
  std::vector<Frames> generate(const std::vector<Prompt>& prompts, Shape shape, int batch) const;

  // The latents before decoding, (B, C, F, H, W) fp32 on the CPU; all prompts in one batch.
  at::Tensor generate_latents(const std::vector<Prompt>& prompts, Shape shape) const;

  const GenerateSettings& settings() const { return settings_; }

 private:
  struct Told;
  Told tell(const std::vector<Prompt>& prompts, Shape shape) const;
  Frames first_frame(const std::string& path, Shape shape) const;
  at::Tensor guided_velocity(const at::Tensor& x, double t, const Told& told) const;

  Network network_;
  at::Device device_;
  const Codec* codec_;
  const TextEncoder* text_encoder_;
  std::array<int, 3> patch_;
  GenerateSettings settings_;
  FirstFrameEncoder first_frame_;
};

}  // namespace pendulum
