// Guided sampling of many prompts at once.
#include "generate/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>
#include <variant>

#include "core/error.h"
#include "core/log.h"
#include "core/random.h"
#include "data/media_reader.h"
#include "objective/first_latent.h"

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

// What the network is told of all prompts of a batch.
struct Generator::Told {
  Conditions with, without;  // the caption
  at::Tensor given;          // (B) bool: whether a first frame is
};

Generator::Generator(Network network, at::Device device, const Codec& codec,
                     const TextEncoder& text_encoder, std::array<int, 3> patch,
                     const GenerateSettings& settings, FirstFrameEncoder first_frame)
    : network_(std::move(network)),
      device_(device),
      codec_(&codec),
      text_encoder_(&text_encoder),
      patch_(patch),
      settings_(settings),
      first_frame_(first_frame) {}

Generator::Told Generator::tell(const std::vector<Prompt>& prompts, Shape shape) const {
  const at::Tensor no_caption = text_encoder_->no_caption();
  std::vector<Conditions> samples;
  at::Tensor given = at::zeros({static_cast<int64_t>(prompts.size())}, at::kBool);
  for (const Prompt& prompt : prompts) {
    Conditions sample = first_frame_.nothing(shape);
    sample.text = prompt.text.empty() ? no_caption : text_encoder_->encode({prompt.text})[0];
    if (!prompt.image.empty()) {
      const Frames first = first_frame(prompt.image, shape);
      sample.start = first_frame_.start(first, shape.frames);
      if (first_frame_.has_image_states()) sample.image = first_frame_.image(first);
      given[static_cast<int64_t>(samples.size())] = true;
    }
    samples.push_back(std::move(sample));
  }
  Told told{stack(samples), {}, given.to(device_)};
  told.without = told.with;
  told.without.text = no_caption.expand_as(told.with.text);
  return {told.with.to(device_), told.without.to(device_), told.given};
}

Frames Generator::first_frame(const std::string& path, Shape shape) const {
  if (first_frame_.kind() == FirstFrame::none)
    throw ConfigError(text(path, ": this model makes videos from captions alone, not from images"));
  if (shape.frames == 1)
    throw ConfigError(text(path, ": a still of one frame has nothing to make of a first frame"));
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError(text(path, ": cannot be opened for reading"));
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  auto read = read_first_frame({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                               shape.height, shape.width);
  if (const auto* failure = std::get_if<ReadFailure>(&read))
    throw ConfigError(text(path, ": ", failure->reason));
  return std::get<Frames>(std::move(read));
}

// Caption and no caption stand in one batch, so that guidance costs one call of twice the size.
at::Tensor Generator::guided_velocity(const at::Tensor& x, double t, const Told& told) const {
  const bool is_guided = settings_.guidance != 1;
  const at::Tensor x_t = is_guided ? at::cat({x, x}) : x;
  const Conditions conditions = is_guided ? cat(told.with, told.without) : told.with;
  at::Tensor time = at::full({x_t.size(0)}, t, x.options());
  const at::Tensor sample_time = time;
  if (first_frame_.kind() == FirstFrame::latent) {
    const at::Tensor given = is_guided ? at::cat({told.given, told.given}) : told.given;
    time = first_latent_time(time, given, x_t.sizes(), patch_);
  }
  const at::Tensor output = network_(x_t, time * 1000, conditions).to(at::kFloat);
  // No floor under the time: it weighs the loss, but here it would leave noise in the clip.
  const at::Tensor velocity = to_velocity(output, x_t, sample_time, settings_.predict, 0);
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
  const Told told = tell(prompts, shape);
  at::Tensor x =
      prompt_noise(prompts, {codec_->channels(), grid.frames, grid.height, grid.width}).to(device_);
  const bool holds_first = first_frame_.kind() == FirstFrame::latent;
  const at::Tensor still = at::zeros({1}, x.options());
  if (holds_first) x = with_first_latent(x, told.with.start, told.given);
  const Velocity velocity = [&](const at::Tensor& at_t, double t) {
    const at::Tensor v = guided_velocity(at_t, t, told);
    return holds_first ? with_first_latent(v, still.view({1, 1, 1, 1, 1}), told.given) : v;
  };
  const double shift = settings_.shift.value_or(default_shift(tokens));
  return integrate(settings_.solver, velocity, x, time_grid(settings_.steps, shift)).to(at::kCPU);
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
