// Puts the channels of a given first frame beside the latent.
#include "model/network.h"

#include <ATen/ATen.h>

namespace pendulum {

Network network_of(const VideoTransformer& model, SequenceGroup* group) {
  const bool takes_channels = model.config().condition_channels() > 0;
  return [&model, group, takes_channels](const at::Tensor& x_t, const at::Tensor& time,
                                         const Conditions& conditions) {
    const at::Tensor latents = takes_channels ? at::cat({x_t, conditions.start}, 1) : x_t;
    return model.forward(latents, time, conditions.text, group, conditions.image);
  };
}

}  // namespace pendulum
