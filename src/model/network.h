// The transformer as objective and solver see it: a function of noisy latent, time and conditions.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

#include "attention/sequence_group.h"
#include "embed/conditions.h"
#include "model/video_transformer.h"

namespace pendulum {

// x_t (B, C, F, H, W), time in [0, 1000] (B) or (B, N) -> (B, C, F, H, W).
using Network = std::function<at::Tensor(const at::Tensor& x_t, const at::Tensor& time,
                                         const Conditions& conditions)>;

// The model must outlive it, as must the group that shares its tokens (null: nobody does).
Network network_of(const VideoTransformer& model, SequenceGroup* group = nullptr);

}  // namespace pendulum
