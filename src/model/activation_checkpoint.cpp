// A stretch as one node of the graph.
#include "model/activation_checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
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
  StretchKeeping keeping;
  AttentionTape tape;
  std::array<bool, 3> wants_gradient{};
  size_t place = 0;  // in the store
  // Under the policy `none`: the stretch's own graph, from its inputs to its output.
  StretchInputs inputs;
  at::Tensor out;

  at::Tensor compute(const StretchInputs& from) {
    const bool has_tape = keeping.policy == ActivationCheckpointing::selective;
    return stretch(from, has_tape ? &tape : nullptr);
  }
  void set_inputs(const StretchInputs& from) {
    for (size_t i = 0; i < from.size(); ++i)
      inputs[i] = from[i].detach().set_requires_grad(wants_gradient[i]);
  }
  void tell(PassMoment moment) const {
    if (keeping.observe) keeping.observe(moment);
  }
};

// A node of the graph with the stretch's own graph inside, made now or when the gradient arrives.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
  // anchor: wants a gradient, so that there is a node also where no input does.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& a, const at::Tensor& b,
                            const at::Tensor& c, const at::Tensor& /*anchor*/,
                            const Stretch* stretch, const StretchKeeping* keeping) {
    auto kept = c10::make_intrusive<Kept>();
    kept->stretch = *stretch;
    kept->keeping = *keeping;
    kept->wants_gradient = {a.requires_grad(), b.requires_grad(), c.requires_grad()};
    kept->tell(PassMoment::before_forward);
    at::Tensor out;
    if (keeping->policy == ActivationCheckpointing::none) {
      const at::AutoGradMode with_graph(true);
      kept->set_inputs({a, b, c});
      kept->out = kept->compute(kept->inputs);
      out = kept->out.detach();
    } else {
      out = kept->compute({a, b, c});
      const bool is_stored = keeping->store != nullptr;
      if (is_stored) kept->place = keeping->store->put(a);
      context->save_for_backward({is_stored ? at::Tensor() : a, b, c});
    }
    kept->tell(PassMoment::after_forward);
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto kept =
        c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    kept->tell(PassMoment::before_backward);
    if (kept->keeping.policy != ActivationCheckpointing::none) {
      const variable_list saved = context->get_saved_variables();
      const auto& store = kept->keeping.store;
      kept->set_inputs({store ? store->take(kept->place) : saved[0], saved[1], saved[2]});
      const at::AutoGradMode with_graph(true);
      kept->tape.replay();
      kept->out = kept->compute(kept->inputs);
    }
    // Adds to the parameters' gradients, as the plain call would.
    torch::autograd::backward({kept->out}, {gradients[0]});
    variable_list out(6);
    for (size_t i = 0; i < kept->inputs.size(); ++i) out[i] = kept->inputs[i].grad();
    // The node lives on until the last one has run; what it kept need not.
    kept->tape = {};
    kept->out.reset();
    kept->inputs = {};
    kept->tell(PassMoment::after_backward);
    return out;
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
                        const StretchKeeping& keeping) {
  const bool has_graph =
      at::GradMode::is_enabled() &&
      (keeping.is_trained ||
       std::any_of(inputs.begin(), inputs.end(), [](const auto& x) { return x.requires_grad(); }));
  if (has_graph && (keeping.policy != ActivationCheckpointing::none || keeping.observe)) {
    const at::Tensor anchor =
        at::empty({0}, inputs[0].options()).set_requires_grad(keeping.is_trained);
    return Checkpoint::apply(inputs[0], inputs[1], inputs[2], anchor, &stretch, &keeping);
  }
  if (keeping.observe) keeping.observe(PassMoment::before_forward);
  const at::Tensor out = stretch(inputs, nullptr);
  if (keeping.observe) keeping.observe(PassMoment::after_forward);
  return out;
}

}  // namespace pendulum
