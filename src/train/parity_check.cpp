// One small layer on a group and on one process.
#include "train/parity_check.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "model/parameters.h"
#include "model/video_transformer.h"
#include "ops/random_tensor.h"

namespace pendulum {
namespace {

// The model's head size, and two heads for each rank that exchanges them where the model has as
// many: their order counts too. Everything else small.
WanConfig small_layer(const WanConfig& model, const SequenceGroup& group) {
  WanConfig config = model;
  config.layers = 1;
  const int ulysses = group.ulysses().size();
  config.heads = model.heads % (2 * ulysses) == 0 ? 2 * ulysses : ulysses;
  config.ffn_dim = 64;
  config.freq_dim = 16;
  config.in_channels = config.out_channels = 4;
  config.text_dim = 16;
  config.patch = {1, 1, 1};
  return config;
}

// Output and parameters' gradients on `group` (null: on this process alone), gradients summed over
// it. `tokens` need not divide by the group.
NamedTensors results(const WanConfig& config, SequenceGroup* group, int64_t tokens,
                     at::Device device, at::ScalarType master, at::ScalarType compute,
                     ActivationCheckpointing checkpointing) {
  VideoTransformer layer(config, 1, master);
  randomise(layer.parameters(), 1);
  layer.to(device);
  layer.set_compute(compute);
  layer.set_activation_checkpointing(checkpointing);
  const auto here = [&](const at::Tensor& x) { return x.to(device, master); };
  const at::Tensor out =
      layer.forward(here(random_tensor({1, 4, 1, 1, tokens}, 1)), at::full({1}, 400.0F).to(device),
                    here(random_tensor({1, 3, 16}, 2)), group);
  out.backward(here(random_tensor(out.sizes(), 3)));
  NamedTensors results{{"the output", out.detach()}};
  for (const auto& [name, parameter] : layer.parameters()) {
    const at::Tensor gradient = parameter.grad().contiguous();
    if (group) group->members().all_reduce(gradient).wait();
    results.emplace_back("the gradient of " + name, gradient);
  }
  return results;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.cpu().to(at::kDouble) - b.cpu().to(at::kDouble)).norm().item<double>();
}

// Against the layer in fp64 on the CPU: at most four times the difference that this process alone
// has in the run's own types, and some units in the last place of the largest element. A token that
// is wrong is away by its own size, a larger share of the whole.
void compare(const WanConfig& config, SequenceGroup& group, int64_t tokens, at::Device device,
             at::ScalarType compute, ActivationCheckpointing checkpointing) {
  const auto plainly = ActivationCheckpointing::none;
  const NamedTensors exact =
      results(config, nullptr, tokens, at::kCPU, at::kDouble, at::kDouble, plainly);
  const NamedTensors alone = results(config, nullptr, tokens, device, at::kFloat, compute, plainly);
  const NamedTensors shared =
      results(config, &group, tokens, device, at::kFloat, compute, checkpointing);
  const double eps = compute == at::kBFloat16 ? 0x1p-8 : 0x1p-23;
  for (size_t i = 0; i < exact.size(); ++i) {
    const auto& [name, wanted] = exact[i];
    const double most = wanted.abs().max().item<double>() * std::sqrt(wanted.numel());
    const double plain = distance(alone[i].second, wanted);
    const double found = distance(shared[i].second, wanted);
    if (found <= 4 * plain + 8 * eps * most) continue;
    throw Error(text("a layer shared by ", group.width(), " processes (Ulysses ",
                     group.ulysses().size(), " x ring ", group.ring().size(), ", ", tokens,
                     " tokens) does not equal the layer on one: ", name, " is ", found,
                     " away from the exact one, on one process ", plain, " (rank ", group.rank(),
                     " of the group). Nothing was trained"));
  }
}

}  // namespace

void check_parity(const SlotGroups& groups, const WanConfig& model, at::Device device,
                  at::ScalarType compute_type, ActivationCheckpointing checkpointing) {
  for (const int width : groups.widths()) {
    if (width == 1) continue;
    const auto start = std::chrono::steady_clock::now();
    SequenceGroup& group = groups.of(width);
    const WanConfig config = small_layer(model, group);
    // Few tokens, so that a single wrong one shows in bf16. One more than whole shares: ranks at
    // the end hold less, or padding alone.
    for (const int64_t tokens : {int64_t{2} * width, int64_t{2} * width + 1})
      compare(config, group, tokens, device, compute_type, checkpointing);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    info("a layer shared by {} processes equals the layer on one ({:.1f} s)", width, took.count());
  }
}

}  // namespace pendulum
