// Activation checkpointing: a stretch of the network keeps its inputs alone, and is computed a
// second time when its gradients are wanted (Chen et al., arXiv 1604.06174).
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "ops/attention.h"
#include "ops/host_store.h"
#include "shard/pass_moment.h"

namespace pendulum {

// none: everything is kept. selective: inputs, and every attention's output and log-sum-exp; the
// linear parts are computed again. full: inputs alone.
enum class ActivationCheckpointing { none, selective, full };
ActivationCheckpointing parse_activation_checkpointing(const std::string& name);

// A stretch of the network as a function of what flows into it; parameters, and what else it uses,
// must outlive the graph. Its attentions go through the tape where there is one.
using StretchInputs = std::array<at::Tensor, 3>;
using Stretch = std::function<at::Tensor(const StretchInputs& inputs, AttentionTape* tape)>;

struct StretchKeeping {
  ActivationCheckpointing policy = ActivationCheckpointing::none;
  bool is_trained = false;  // parameters of the stretch, or what flows into it, want gradients
  // Where the first input waits, unless everything is kept; null: where it is.
  std::shared_ptr<HostStore> store{};
  // Told before and after the stretch is computed, and before and after its backward pass, which
  // begins with computing it again; may be empty.
  std::function<void(PassMoment)> observe{};
};

// stretch(inputs), kept by the policy. Gradients are those of the plain call, to the bit where the
// stretch is deterministic.
at::Tensor checkpointed(const Stretch& stretch, const StretchInputs& inputs,
                        const StretchKeeping& keeping);

}  // namespace pendulum
