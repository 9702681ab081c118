// AdamW or Muon with decay groups, a trainable mask, clipping by global norm and an exponential
// moving average.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// Those of `parameters` whose whole name the regular expression matches; the others get
// requires_grad off. ConfigError where the pattern is no regular expression or matches nothing.
NamedTensors select_trainable(const NamedTensors& parameters, const std::string& pattern);

enum class OptimizerKind { adamw, muon };
OptimizerKind parse_optimizer_kind(const std::string& name);

// Updates fp32 parameters in place: all by AdamW (Loshchilov and Hutter, arXiv 1711.05101), or the
// blocks' matrices by Muon (optim/muon.h) and the rest by AdamW. Moments and average exist for the
// trained parameters alone. Weight decay acts on matrices, not on biases, norms and modulation
// tables.
class Optimizer {
 public:
  // `trained` may be none: a rank that owns no update. The kind belongs to the whole run, as the
  // state does. has_average: whether an average is kept (its rate may change from stage to stage).
  Optimizer(NamedTensors trained, OptimizerKind kind, bool has_average);

  // Norm over all gradients, sums in fp64. Parameters without a gradient count as zero.
  double gradient_norm() const;

  // One update at learning rate lr with gradients multiplied by scale first; then the average moves
  // by (1 - ema).
  void step(const OptimConfig& config, double lr, double scale);
  void zero_gradients();

  const NamedTensors& parameters() const { return trained_; }
  const NamedTensors& average() const { return average_; }  // aligned with parameters(), or empty
  bool has_average() const { return has_average_; }         // of the run, whatever this rank owns

  // All that changes during training besides the parameters: "m.<name>", "v.<name>" (not of what
  // Muon updates) and "steps".
  NamedTensors state() const;
  // Error names a tensor that is missing or of another shape.
  void load_state(const NamedTensors& state);
  void load_average(const NamedTensors& average);

 private:
  NamedTensors trained_;
  std::vector<bool> by_muon_;  // aligned with trained_
  NamedTensors first_moment_;
  NamedTensors second_moment_;  // undefined where Muon updates
  NamedTensors average_;
  bool has_average_;
  at::Tensor steps_;  // int64 scalar
};

// While it lives, the parameters hold the averaged weights; then they are as before. Does nothing
// without an average.
class AverageScope {
 public:
  explicit AverageScope(const Optimizer& optimizer);
  ~AverageScope();
  AverageScope(const AverageScope&) = delete;
  AverageScope& operator=(const AverageScope&) = delete;

 private:
  const Optimizer& optimizer_;
  std::vector<at::Tensor> trained_;  // the storage the parameters had
};

// Copies values by name into `to`; Error names the first tensor that is missing or misshapen.
void copy_by_name(const NamedTensors& to, const NamedTensors& from);

}  // namespace pendulum
