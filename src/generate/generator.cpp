// Guided sampling of many prompts at once.
#include "generate/generator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "core/random.h"

namespace pendulum {
namespace {

// (B, C, F, H, W): each prompt's own noise, keyed by its seed.
at::Tensor prompt_noise(const std::vector<Prompt>& prompts, at::IntArrayRef latent_sizes) {
  std::vector<int64_t> sizes{static_cast<int64_t>(prompts.size())};
  sizes.insert(sizes.end(), latent_sizes.begin(), latent_sizes.end());
  at::Tensor noise = at::empty(sizes, at::kFloat);
  const int64_t each = noise[0].numel();
  for (size_t i = 0; i < prompts.size(); ++i) {
    fill_normal(noise.data_ptr<float>() + i * each, each, draw(Purpose::generate, prompts[i].seed));
  }
  return noise;
}

}  // namespace

GenerateSettings generate_settings(const GenerateConfig& generate,
                                   const ObjectiveConfig& objective) {
  if (generate.steps < 1)
    throw ConfigError(text("generate.steps is ", generate.steps, ": at least 1"));
  if (!(generate.guidance >= 0)) {
    throw ConfigError(
        text("generate.guidance is ", generate.guidance, ": 0 or more; 1 is no guidance"));
  }
  if (generate.shift && !(*generate.shift > 0)) {
    throw ConfigError(text("generate.shift is ", *generate.shift, ": it must be positive"));
  }
  return {parse_solver(generate.solver), generate.steps, generate.guidance, generate.shift,
          parse_predict(objective.predict)};
}

Generator::Generator(Network network, at::Device device, const Codec& codec,
                     const TextEncoder& text_encoder, std::array<int, 3> patch,
                     const GenerateSettings& settings)
    : network_(std::move(network)),
      device_(device),
      codec_(&codec),
      text_encoder_(&text_encoder),
      patch_(patch),
      settings_(settings) {}

// Caption and no caption stand in one batch, so that guidance costs one call of twice the size. No
// caption is what caption dropout trained: text states of zero.
at::Tensor Generator::guided_velocity(const at::Tensor& x, double t, const at::Tensor& text) const {
  const bool is_guided = settings_.guidance != 1;
  const at::Tensor x_t = is_guided ? at::cat({x, x}) : x;
  const at::Tensor states = is_guided ? at::cat({text, at::zeros_like(text)}) : text;
  const at::Tensor time = at::full({x_t.size(0)}, t, x.options());
  const at::Tensor output = network_(x_t, time * 1000, states).to(at::kFloat);
  // No floor under the time: it weighs the loss, but here it would leave noise in the clip.
  const at::Tensor velocity = to_velocity(output, x_t, time, settings_.predict, 0);
  if (!is_guided) return velocity;
  const auto halves = velocity.chunk(2);
  return halves[1] + settings_.guidance * (halves[0] - halves[1]);
}

at::Tensor Generator::generate_latents(const std::vector<Prompt>& prompts, Shape shape) const {
  check(!prompts.empty(), "at least one prompt");
  const at::NoGradGuard no_grad;
  const auto grid = codec_->latent_shape(shape);
  const int64_t tokens =
      (grid.frames / patch_[0]) * (grid.height / patch_[1]) * (grid.width / patch_[2]);
  std::vector<std::string> captions(prompts.size());
  std::transform(prompts.begin(), prompts.end(), captions.begin(),
                 [](const Prompt& p) { return p.text; });
  at::Tensor states = text_encoder_->encode(captions).to(at::kFloat);
  for (size_t i = 0; i < captions.size(); ++i) {
    if (captions[i].empty()) states[i].zero_();
  }
  const at::Tensor text = states.to(device_);
  const at::Tensor noise =
      prompt_noise(prompts, {codec_->channels(), grid.frames, grid.height, grid.width}).to(device_);
  const Velocity velocity = [&](const at::Tensor& x, double t) {
    return guided_velocity(x, t, text);
  };
  const double shift = settings_.shift.value_or(default_shift(tokens));
  return integrate(settings_.solver, velocity, noise, time_grid(settings_.steps, shift))
      .to(at::kCPU);
}

std::vector<Frames> Generator::generate(const std::vector<Prompt>& prompts, Shape shape,
                                        int batch) const {
  check(batch >= 1, "a batch of at least one prompt", batch);
  std::vector<Frames> clips;
  clips.reserve(prompts.size());
  for (size_t first = 0; first < prompts.size(); first += batch) {
    progress_line(fmt::format("generating: {} of {} clips", first, prompts.size()));
    const size_t last = std::min(first + batch, prompts.size());
    const at::Tensor latents =
        generate_latents({prompts.begin() + first, prompts.begin() + last}, shape);
    for (int64_t i = 0; i < latents.size(0); ++i) clips.push_back(codec_->decode(latents[i]));
  }
  return clips;
}

}  // namespace pendulum
