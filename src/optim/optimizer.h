// AdamW, with moments in fp32 or in 8 bits, or Muon, with decay groups, a trainable mask, clipping
// by global norm and an exponential moving average.
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

enum class OptimizerKind { adamw, adamw8bit, muon };
OptimizerKind parse_optimizer_kind(const std::string& name);

// Where averages are: beside their parameters, or in host memory, whatever device these are on.
enum class AverageMemory { device, host };
AverageMemory parse_average_memory(const std::string& name);

// Updates fp32 parameters in place: all by AdamW (Loshchilov and Hutter, arXiv 1711.05101), or the
// blocks' matrices by Muon (optim/muon.h) and the rest by AdamW. Moments and average exist for the
// trained parameters alone. Weight decay acts on matrices, not on biases, norms and modulation
// tables.
//
// adamw8bit keeps both moments in 8 bits with a scale for each 256 numbers of a tensor (Dettmers et
// al., arXiv 2110.02861; kernels/adamw8bit.h). As there, vectors and what has fewer than 4096
// numbers keep fp32 moments: they weigh little, and a norm's or bias's error reaches a whole
// channel.
class Optimizer {
 public:
  // `trained` may be none: a rank that owns no update. The kind belongs to the whole run, as the
  // state does. has_average: whether an average is kept (its rate may change from stage to stage).
  Optimizer(NamedTensors trained, OptimizerKind kind, bool has_average,
            AverageMemory average_memory = AverageMemory::device);

  // Norm over all gradients, sums in fp64. Parameters without a gradient count as zero.
  double gradient_norm() const;

  // One update at learning rate lr with gradients multiplied by scale first; then the average moves
  // by (1 - ema).
  void step(const OptimConfig& config, double lr, double scale);
  void zero_gradients();

  const NamedTensors& parameters() const { return trained_; }
  const NamedTensors& average() const { return average_; }  // aligned with parameters(), or empty
  bool has_average() const { return has_average_; }         // of the run, whatever this rank owns
  AverageMemory average_memory() const { return average_memory_; }

  // All that changes during training besides the parameters: "m.<name>", "v.<name>" (not of what
  // Muon updates), "m_scale.<name>" and "v_scale.<name>" (of moments in 8 bits, whose "m" and "v"
  // are uint8), and "steps".
  NamedTensors state() const;
  // DataError names a tensor that is missing or of another shape or type.
  void load_state(const NamedTensors& state);
  void load_average(const NamedTensors& average);

 private:
  // Of one parameter. Scales are defined where moments are in 8 bits; the second moment is not
  // where Muon updates.
  struct Moments {
    at::Tensor first, second, first_scale, second_scale;
  };
  static Moments fresh_moments(OptimizerKind kind, const std::string& name,
                               const at::Tensor& parameter);
  void average_on_host(double ema);

  NamedTensors trained_;
  std::vector<Moments> moments_;  // aligned with trained_
  NamedTensors average_;
  bool has_average_;
  AverageMemory average_memory_;
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
  // What the parameters had: their storage, or, where averages are in host memory, a copy there of
  // what it held, so that a device need not hold both.
  std::vector<at::Tensor> trained_;
};

// Copies values by name into `to`; DataError names the first tensor that is missing or misshapen.
void copy_by_name(const NamedTensors& to, const NamedTensors& from);

}  // namespace pendulum
