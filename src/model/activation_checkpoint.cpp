// Forward without a graph, and with one when the gradient arrives.
#include "model/activation_checkpoint.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "core/error.h"

namespace pendulum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What the backward pass needs besides the inputs.
struct Kept : torch::CustomClassHolder {
  Stretch stretch;
  AttentionTape tape;
  bool has_tape = false;
  AttentionTape* tape_or_null() { return has_tape ? &tape : nullptr; }
};

struct Checkpoint : torch::autograd::Function<Checkpoint> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& a, const at::Tensor& b,
                            const at::Tensor& c, const Stretch* stretch, bool has_tape) {
    auto kept = c10::make_intrusive<Kept>();
    kept->stretch = *stretch;
    kept->has_tape = has_tape;
    const at::Tensor out = kept->stretch({a, b, c}, kept->tape_or_null());
    context->save_for_backward({a, b, c});
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto kept =
        c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    StretchInputs inputs;
    for (size_t i = 0; i < inputs.size(); ++i)
      inputs[i] = saved[i].detach().set_requires_grad(saved[i].requires_grad());
    const at::AutoGradMode with_graph(true);
    kept->tape.replay();
    const at::Tensor out = kept->stretch(inputs, kept->tape_or_null());
    // Adds to the parameters' gradients, as the plain call would.
    torch::autograd::backward({out}, {gradients[0]});
    kept->tape = {};  // the graph lives on until its last node; what the tape holds need not
    return {inputs[0].grad(), inputs[1].grad(), inputs[2].grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

ActivationCheckpointing parse_activation_checkpointing(const std::string& name) {
  if (name == "none") return ActivationCheckpointing::none;
  if (name == "selective") return ActivationCheckpointing::selective;
  if (name == "full") return ActivationCheckpointing::full;
  throw ConfigError(
      text("model.activation_checkpointing: '", name, "' is not known; none, selective or full"));
}

at::Tensor checkpointed(const Stretch& stretch, const StretchInputs& inputs,
                        ActivationCheckpointing policy) {
  // A node of the graph needs an input that wants a gradient. Without one, as for the first block
  // where only later parameters or adapters train, the plain call is right and keeps little.
  const bool has_graph =
      at::GradMode::is_enabled() &&
      std::any_of(inputs.begin(), inputs.end(), [](const auto& x) { return x.requires_grad(); });
  if (policy == ActivationCheckpointing::none || !has_graph) return stretch(inputs, nullptr);
  return Checkpoint::apply(inputs[0], inputs[1], inputs[2], &stretch,
                           policy == ActivationCheckpointing::selective);
}

}  // namespace pendulum
