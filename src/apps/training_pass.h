// Forward and backward of random samples, as a trainer runs a group's pass: what is measured.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <utility>

#include "apps/machine.h"
#include "attention/sequence_group.h"
#include "config/config.h"
#include "core/shape.h"
#include "model/video_transformer.h"
#include "pendulum/cost.h"

namespace pendulum {

class TrainingPass {
 public:
  // Fresh weights on the machine's device, for latents and states of the geometry's sizes. What
  // trains is what trains in the run; what is frozen is stored, and waits, as it does there.
  TrainingPass(const Config& config, const Machine& machine, const Geometry& geometry);

  // `batch` samples of `shape`, their tokens shared by `group` (null: by nobody). Gradients add up
  // in the model's parameters. Returns when the device is done.
  void run(const Shape& shape, int batch, SequenceGroup* group = nullptr);

  const VideoTransformer& model() const { return model_; }

 private:
  struct Inputs {
    at::Tensor latents, words, time, image;  // the last one undefined where none is taken
  };
  const Inputs& inputs(const Shape& shape, int batch);

  Geometry geometry_;
  at::Device device_;
  VideoTransformer model_;
  at::Tensor trained_;                              // one of the parameters that train
  std::map<std::pair<Shape, int>, Inputs> inputs_;  // of what was run before
};

}  // namespace pendulum
