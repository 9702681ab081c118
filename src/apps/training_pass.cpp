// A pass over random samples.
#include "apps/training_pass.h"

#include <ATen/ATen.h>

#include "apps/start_model.h"
#include "model/config.h"
#include "ops/random_tensor.h"
#include "optim/optimizer.h"

namespace pendulum {

TrainingPass::TrainingPass(const Config& config, const Machine& machine, const Geometry& geometry)
    : geometry_(geometry),
      device_(machine.device()),
      model_(fresh_model(config,
                         wan_config(config.model, {geometry.latent_channels(), geometry.text_dim,
                                                   geometry.temporal, geometry.image_dim}))) {
  set_up_passes(model_, config.model, machine);
  trained_ = select_trainable(model_.trainable(), config.model.trainable).front().second;
}

const TrainingPass::Inputs& TrainingPass::inputs(const Shape& shape, int batch) {
  const auto [found, is_new] = inputs_.try_emplace({shape, batch});
  if (is_new) {
    const Geometry& g = geometry_;
    const auto random = [&](at::IntArrayRef sizes, uint64_t key) {
      return random_tensor(sizes, key).to(device_);
    };
    found->second = {random({batch, g.channels, (shape.frames - 1) / g.temporal + 1,
                             shape.height / g.spatial, shape.width / g.spatial},
                            1),
                     random({batch, g.text_length, g.text_dim}, 2),
                     at::linspace(1, 999, batch).to(device_), at::Tensor()};
    if (g.image_dim > 0) found->second.image = random({batch, g.image_length, g.image_dim}, 3);
  }
  return found->second;
}

void TrainingPass::run(const Shape& shape, int batch, SequenceGroup* group) {
  const Inputs& in = inputs(shape, batch);
  const at::Tensor out = model_.forward(in.latents, in.time, in.words, group, in.image);
  out.to(at::kFloat).square().mean().backward();
  // Reading a number waits for what the device does before it.
  trained_.grad().flatten()[0].item<float>();
}

}  // namespace pendulum
