// pendulum bench: how fast the parts are on this machine.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/embedding_parts.h"
#include "apps/machine.h"
#include "apps/timing.h"
#include "core/error.h"
#include "core/log.h"
#include "model/config.h"
#include "model/video_transformer.h"
#include "ops/random_tensor.h"
#include "optim/optimizer.h"

namespace pendulum {
namespace {

struct StepOptions : ConfigOptions {
  std::string stage;
  int steps = 10;
  int batch = 0;
  bool json = false;
};

// The source of a stage whose samples have the most tokens: clips before stills.
std::string heaviest_source(const StageConfig& stage) {
  const auto smaller_batch = [](const auto& a, const auto& b) { return a.second < b.second; };
  return std::min_element(stage.batch.begin(), stage.batch.end(), smaller_batch)->first;
}

// One full step, as a trainer does it with the data at hand: forward, loss, backward, clipped
// update.
void bench_step(const StepOptions& options) {
  const Config config = load_config(options.path, options.overrides);
  const Machine machine(config.mesh);
  const auto found = std::find_if(
      config.stages.begin(), config.stages.end(),
      [&](const StageConfig& s) { return options.stage.empty() || s.name == options.stage; });
  if (found == config.stages.end())
    throw ConfigError(text("--stage: there is no stage ", options.stage));
  const int batch = options.batch > 0      ? options.batch
                    : found->batch.empty() ? 1
                                           : found->batch.at(heaviest_source(*found));
  const std::unique_ptr<Codec> codec = make_codec(config.codec);
  const LatentShape grid = codec->latent_shape(found->shape);
  const int text_dim = text_width(config.text);
  const WanConfig wan = wan_config(config.model, {codec->channels(), text_dim});
  VideoTransformer model(wan, config.run.seed);
  model.to(machine.device());
  model.set_compute(machine.compute_type());
  model.set_activation_checkpointing(
      parse_activation_checkpointing(config.model.activation_checkpointing));
  model.set_offload(config.model.offload != "none");
  Optimizer optimizer(model.parameters(), parse_optimizer_kind(config.optim.kind), false);

  const std::vector<int64_t> shape{batch, codec->channels(), grid.frames, grid.height, grid.width};
  const auto random = [&](at::IntArrayRef sizes, uint64_t key) {
    return random_tensor(sizes, key).to(machine.device());
  };
  const at::Tensor x = random(shape, 1), target = random(shape, 2);
  const at::Tensor words = random({batch, config.text.length, text_dim}, 3);
  const at::Tensor time = at::linspace(1, 999, batch).to(machine.device());
  std::vector<double> seconds;
  for (int step = 0; step < options.steps + 2; ++step) {
    const double start = seconds_now();
    optimizer.zero_gradients();
    (model.forward(x, time, words).to(at::kFloat) - target).square().mean().backward();
    const double scale =
        std::min(1.0, 1.0 / (optimizer.gradient_norm() + 1e-12));  // also waits for the device
    optimizer.step(found->optim, 1e-4, scale);
    if (step >= 2) seconds.push_back(seconds_now() - start);
  }
  const double typical = median(seconds);
  Geometry sizes = geometry(config, *codec, wan);
  sizes.part.reset();  // adapters or not, all of the model trains here
  const double flops = batch * training_flops(sizes, found->shape);
  if (!options.json) {
    fmt::print("{}: {:.1f} ms per step of {} samples, {:.2f} steps/s, {:.1f} GFLOP/s{}\n",
               found->name, typical * 1e3, batch, 1 / typical, flops / typical * 1e-9,
               machine.peak_flops() > 0
                   ? fmt::format(", MFU {:.1f} %", 100 * flops / typical / machine.peak_flops())
                   : "");
    return;
  }
  fmt::print("{}\n",
             nlohmann::json{{"stage", found->name},
                            {"steps_per_second", 1 / typical},
                            {"gflops", flops / typical * 1e-9},
                            {"batch", batch},
                            {"latent", {codec->channels(), grid.frames, grid.height, grid.width}},
                            {"text", {config.text.length, text_dim}},
                            {"threads", at::get_num_threads()},
                            {"device", machine.device().str()},
                            {"checkpointing", config.model.activation_checkpointing},
                            {"model",
                             {{"layers", wan.layers},
                              {"heads", wan.heads},
                              {"head_dim", wan.head_dim},
                              {"ffn_dim", wan.ffn_dim},
                              {"freq_dim", wan.freq_dim},
                              {"in_channels", wan.in_channels},
                              {"out_channels", wan.out_channels},
                              {"text_dim", wan.text_dim},
                              {"patch", wan.patch}}}}
                 .dump());
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "measure speed on this machine");
  bench->require_subcommand(1);
  add_bench_attention(*bench);
  add_bench_catalogue(*bench);
  add_bench_codec(*bench);
  add_bench_data(*bench);
  add_bench_import(*bench);
  add_bench_sharding(*bench);
  auto options = std::make_shared<StepOptions>();
  CLI::App* step =
      bench->add_subcommand("step", "forward, backward and update of the model at a stage's shape");
  add_config_options(*step, *options);
  step->add_option("--stage", options->stage,
                   "stage whose shape and batch are used; the first if not given");
  step->add_option("--steps", options->steps, "steps measured, after two that are not")
      ->check(CLI::Range(1, kMostOfAnything));
  step->add_option("--batch", options->batch, "samples per step instead of the stage's");
  step->add_flag("--json", options->json, "one JSON object instead of a sentence");
  step->callback([options] { bench_step(*options); });
}

}  // namespace pendulum
