// Flow matching on tensors.
#include "objective/flow_matching.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "objective/first_latent.h"
#include "objective/time_range.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

// (B) or (B, N) times as a tensor that broadcasts over latents (B, C, F, H, W).
at::Tensor spread(const at::Tensor& time, const at::Tensor& latents,
                  const std::array<int, 3>& patch) {
  if (time.dim() == 1) return time.view({-1, 1, 1, 1, 1});
  const int64_t f = latents.size(2) / patch[0], h = latents.size(3) / patch[1],
                w = latents.size(4) / patch[2];
  return time.view({-1, 1, f, h, w})
      .repeat_interleave(patch[0], 2)
      .repeat_interleave(patch[1], 3)
      .repeat_interleave(patch[2], 4);
}

// (B, ...) with zeros for the samples that are not given their first frame.
at::Tensor only_given(const at::Tensor& x, const at::Tensor& given) {
  std::vector<int64_t> sizes(x.dim(), 1);
  sizes[0] = x.size(0);
  return x * given.to(x.scalar_type()).view(sizes);
}

}  // namespace

Predict parse_predict(const std::string& name) {
  check(name == "velocity" || name == "x", "predict is velocity or x, not ", name);
  return name == "x" ? Predict::x : Predict::velocity;
}

double default_shift(int64_t tokens) { return std::max(1.0, std::pow(tokens / 256.0, 0.25)); }

at::Tensor to_velocity(const at::Tensor& output, const at::Tensor& x_t, const at::Tensor& time,
                       Predict predict, double min_time) {
  if (predict == Predict::velocity) return output;
  const at::Tensor t = time.dim() == 1 ? time.view({-1, 1, 1, 1, 1}) : time;
  return (x_t - output) / t.clamp_min(min_time);
}

at::Tensor keyed_noise(at::IntArrayRef shape, Purpose purpose, uint64_t seed,
                       const std::vector<SampleKey>& keys) {
  check(static_cast<int64_t>(keys.size()) == shape[0], "one key per sample: ", keys.size(),
        " keys");
  at::Tensor noise = at::empty(shape, at::kFloat);
  const int64_t per_sample = noise.numel() / std::max<int64_t>(1, shape[0]);
  float* out = noise.data_ptr<float>();
  parallel_for(0, shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      fill_normal(out + b * per_sample, per_sample,
                  draw(purpose, seed, keys[b].bucket, keys[b].ordinal));
    }
  });
  return noise;
}

FlowMatching::FlowMatching(const ObjectiveConfig& config, uint64_t seed, std::array<int, 3> patch,
                           FirstFrame first_frame, at::Tensor no_caption)
    : config_(config),
      seed_(seed),
      patch_(patch),
      predict_(parse_predict(config.predict)),
      first_frame_(first_frame),
      no_caption_(std::move(no_caption)) {}

double FlowMatching::time_of(const SampleKey& key, int64_t tokens, int64_t place) const {
  const uint64_t bits = draw(Purpose::timestep, seed_, key.bucket, key.ordinal, place);
  return draw_time(config_, config_.shift.value_or(default_shift(tokens)), bits);
}

bool FlowMatching::drops_caption(const SampleKey& key) const {
  return uniform(draw(Purpose::caption_dropout, seed_, key.bucket, key.ordinal)) <
         config_.caption_dropout;
}

bool FlowMatching::gives_first_frame(const SampleKey& key) const {
  return uniform(draw(Purpose::first_frame, seed_, key.bucket, key.ordinal)) < config_.first_frame;
}

// given: (B) bool.
at::Tensor FlowMatching::error(const Network& network, const at::Tensor& latents,
                               const Conditions& conditions, const at::Tensor& given,
                               const at::Tensor& noise, const at::Tensor& time) const {
  const at::Tensor t = spread(time, latents, patch_);
  at::Tensor x_t = at::lerp(latents, noise, t);
  at::Tensor seen_time = time;
  Conditions seen = conditions;
  if (first_frame_ == FirstFrame::latent) {
    x_t = with_first_latent(x_t, conditions.start, given);
    seen_time = first_latent_time(time, given, latents.sizes(), patch_);
  } else if (first_frame_ == FirstFrame::channels) {
    seen.start = only_given(conditions.start, given);
    if (seen.image.defined()) seen.image = only_given(conditions.image, given);
  }
  const at::Tensor output = network(x_t, seen_time * 1000, seen).to(at::kFloat);
  // Of clean latents (x_t - output)/t against (x_t - x0)/t, with the same floor under both: the
  // path's own error cancels.
  const at::Tensor squares =
      (predict_ == Predict::velocity ? output - (noise - latents)
                                     : (output - latents) / t.clamp_min(config_.min_time))
          .square();
  if (first_frame_ == FirstFrame::latent) return mean_of_made(squares, given);
  return squares.mean({1, 2, 3, 4});
}

at::Tensor FlowMatching::loss(const Network& network, const at::Tensor& latents,
                              const Conditions& conditions,
                              const std::vector<SampleKey>& keys) const {
  const int64_t num_samples = latents.size(0);
  const int64_t tokens = latents[0][0].numel() / (patch_[0] * patch_[1] * patch_[2]);
  const int64_t places = config_.per_token ? tokens : 1;
  at::Tensor time = at::empty({num_samples, places}, at::kFloat);
  at::Tensor dropped = at::zeros({num_samples}, at::kBool);
  at::Tensor given = at::zeros({num_samples}, at::kBool);
  float* t = time.data_ptr<float>();
  for (int64_t b = 0; b < num_samples; ++b) {
    for (int64_t n = 0; n < places; ++n) *t++ = static_cast<float>(time_of(keys[b], tokens, n));
    dropped[b] = drops_caption(keys[b]);
    given[b] = latents.size(2) > 1 && gives_first_frame(keys[b]);
  }
  if (!config_.per_token) time = time.view({num_samples});
  const at::Device device = latents.device();
  const at::Tensor noise = keyed_noise(latents.sizes(), Purpose::noise, seed_, keys);
  Conditions seen = conditions;
  const at::Tensor nothing = no_caption_.defined() ? no_caption_.to(seen.text.options())
                                                   : at::zeros({}, seen.text.options());
  seen.text = at::where(dropped.to(device).view({-1, 1, 1}), nothing, seen.text);
  return error(network, latents, seen, given.to(device), noise.to(device), time.to(device));
}

at::Tensor FlowMatching::loss_at(const Network& network, const at::Tensor& latents,
                                 const Conditions& conditions, const std::vector<SampleKey>& keys,
                                 double time) const {
  const at::Tensor noise = keyed_noise(latents.sizes(), Purpose::validation, seed_, keys);
  const at::Tensor t = at::full({latents.size(0)}, time, latents.options());
  const bool is_given = latents.size(2) > 1 && config_.first_frame > 0;
  const at::Tensor given =
      at::full({latents.size(0)}, is_given, latents.options().dtype(at::kBool));
  return error(network, latents, conditions, given, noise.to(latents.device()), t);
}

}  // namespace pendulum
