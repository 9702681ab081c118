// Flow matching: the straight path from data to noise, the time it is looked at, and the loss of a
// prediction.
//
// x_t = (1 - t) x0 + t eps with t in (0, 1); the velocity is eps - x0 (Lipman et al., arXiv
// 2210.02747; Esser et al., arXiv 2403.03206). Legend: B samples, C latent channels, F x H x W
// latent grid, N tokens, L text tokens, D text width.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/random.h"
#include "embed/conditions.h"
#include "model/network.h"

namespace pendulum {

// What the network's output stands for.
enum class Predict { velocity, x };
Predict parse_predict(const std::string& name);

// Shift of the time distribution for a sample of this many tokens: (tokens / 256)^(1/4), at
// least 1. Larger samples hide more signal at the same noise; the formula gives 3.4 at 32,760
// and 4.1 at 75,600 tokens, where Wan 2.1 uses 3 and 5.
double default_shift(int64_t tokens);

// t' = s t / (1 + (s - 1) t).
inline double shift_time(double t, double s) { return s * t / (1 + (s - 1) * t); }

// The velocity that a prediction implies. time: (B) or broadcastable to x_t (B, C, F, H, W).
at::Tensor to_velocity(const at::Tensor& output, const at::Tensor& x_t, const at::Tensor& time,
                       Predict predict, double min_time);

class FlowMatching {
 public:
  // patch: latent (time, height, width) of a token, which share one time where times are drawn per
  // token. no_caption: TextEncoder::no_caption(); undefined: zeros.
  FlowMatching(const ObjectiveConfig& config, uint64_t seed, std::array<int, 3> patch,
               FirstFrame first_frame = FirstFrame::none, at::Tensor no_caption = {});

  // Loss of each sample, (B) fp32: mean of the squared error in velocity over its latent, without a
  // first latent frame that is given. latents (B, C, F, H, W) fp32 and conditions stand on the
  // network's device. Captions and first frames are left out as configured.
  at::Tensor loss(const Network& network, const at::Tensor& latents, const Conditions& conditions,
                  const std::vector<SampleKey>& keys) const;

  // The same at a given time for all samples and noise keyed for validation; captions are all
  // there, and first frames where they ever are.
  at::Tensor loss_at(const Network& network, const at::Tensor& latents,
                     const Conditions& conditions, const std::vector<SampleKey>& keys,
                     double time) const;

  // The time drawn for a sample; place 0 where times are drawn per sample, else the token.
  double time_of(const SampleKey& key, int64_t tokens, int64_t place = 0) const;
  // Whether such times are trained (objective.time_range).
  bool covers(double time) const {
    return time >= config_.time_range[0] && time <= config_.time_range[1];
  }
  bool drops_caption(const SampleKey& key) const;
  bool gives_first_frame(const SampleKey& key) const;

 private:
  at::Tensor error(const Network& network, const at::Tensor& latents, const Conditions& conditions,
                   const at::Tensor& given, const at::Tensor& noise, const at::Tensor& time) const;

  ObjectiveConfig config_;
  uint64_t seed_;
  std::array<int, 3> patch_;
  Predict predict_;
  FirstFrame first_frame_;
  at::Tensor no_caption_;
};

// Standard normal noise (B, C, F, H, W) on the CPU; sample b's depends on draw(purpose, seed,
// keys[b]) alone.
at::Tensor keyed_noise(at::IntArrayRef shape, Purpose purpose, uint64_t seed,
                       const std::vector<SampleKey>& keys);

}  // namespace pendulum
