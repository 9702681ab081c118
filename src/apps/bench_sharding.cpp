// pendulum bench sharding: a training step with parameters dealt at every level, in turns.
#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "apps/commands.h"
#include "apps/embedding_parts.h"
#include "apps/machine.h"
#include "apps/timing.h"
#include "core/error.h"
#include "model/config.h"
#include "model/video_transformer.h"
#include "ops/random_tensor.h"
#include "optim/optimizer.h"
#include "shard/sharded_parameters.h"

namespace pendulum {
namespace {

struct ShardingOptions : ConfigOptions {
  std::string stage;
  int batch = 1;
  int steps = 5;
  int rounds = 3;
};

// Passes allocations on and counts what is held.
class PeakAllocator : public at::Allocator {
 public:
  explicit PeakAllocator(at::Allocator* below) : below_(below) {}
  at::DataPtr allocate(size_t bytes) override {
    at::DataPtr memory = below_->allocate(bytes);
    void* data = memory.get();
    held_ += static_cast<int64_t>(bytes);
    peak = std::max(peak.load(), held_.load());
    return {data, new Block{std::move(memory), bytes}, &release, at::kCPU};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  void start() { peak = held_.load(); }
  int64_t held() const { return held_; }
  std::atomic<int64_t> peak{0};

 private:
  struct Block {
    at::DataPtr memory;
    size_t bytes;
  };
  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    held_ -= static_cast<int64_t>(block->bytes);
  }
  static inline std::atomic<int64_t> held_{0};
  at::Allocator* below_;
};

struct Measured {
  std::vector<double> seconds;  // of a step, the slowest process's
  int64_t peak = 0;             // bytes of tensors in these steps, the fullest process's
};

double largest(double mine, Communicator& world) {
  at::Tensor value = at::full({1}, mine, at::kDouble);
  world.all_reduce(value, Reduce::max).wait();
  return value.item<double>();
}

void measure(const ShardingOptions& options, const Config& config, const StageConfig& stage,
             const Codec& codec, int text_dim, const Machine& machine, int level,
             PeakAllocator& memory, Measured* measured) {
  Communicator& world = machine.world();
  const int64_t before = memory.held();
  const LatentShape grid = codec.latent_shape(stage.shape);
  VideoTransformer model(wan_config(config.model, {codec.channels(), text_dim}), std::nullopt);
  model.set_activation_checkpointing(
      parse_activation_checkpointing(config.model.activation_checkpointing));
  ShardedParameters weights(model.parameters(), world,
                            {level, level == 0 ? 1 : world.size(), model.first_trained_block()});
  model.start(weights.held(), config.run.seed);
  if (weights.observes()) model.set_observer(weights.observer());
  Optimizer optimizer(weights.owned(), parse_optimizer_kind(config.optim.kind),
                      stage.optim.ema > 0);
  const at::Tensor x = random_tensor(
      {options.batch, codec.channels(), grid.frames, grid.height, grid.width}, world.rank());
  const at::Tensor words =
      random_tensor({options.batch, config.text.length, text_dim}, 100 + world.rank());
  const at::Tensor time = at::linspace(1, 999, options.batch);
  for (int step = 0; step < options.steps + 1; ++step) {
    world.barrier();
    const double start = seconds_now();
    weights.zero_gradients();
    weights.begin_pass(true);
    (model.forward(x, time, words) - x).square().mean().backward();
    weights.end_pass();
    weights.finish_gradients();
    optimizer.step(stage.optim, 1e-4, 1 / (1 + weights.gradient_norm()));
    weights.gather();
    const double took = largest(seconds_now() - start, world);
    if (step >= 1) measured->seconds.push_back(took);
    if (step == 0) memory.start();  // what setting up took is not a step's
  }
  measured->peak = static_cast<int64_t>(largest(static_cast<double>(memory.peak - before), world));
}

void bench_sharding(const ShardingOptions& options) {
  const Config config = load_config(options.path, options.overrides);
  const Machine machine(config.mesh);
  if (machine.device().is_cuda())
    throw ConfigError("bench sharding counts memory on CPUs; --set mesh.device=cpu");
  const auto stage = std::find_if(
      config.stages.begin(), config.stages.end(),
      [&](const StageConfig& s) { return options.stage.empty() || s.name == options.stage; });
  if (stage == config.stages.end())
    throw ConfigError(text("--stage: there is no stage ", options.stage));
  at::Allocator* const before = c10::GetCPUAllocator();
  static PeakAllocator memory(before);  // outlives every tensor that it has counted
  c10::SetCPUAllocator(&memory, 1);
  // The text encoder that tells its width is larger than many a model: it is gone by now.
  const std::unique_ptr<Codec> codec = make_codec(config.codec);
  const int text_dim = text_width(config.text);
  std::array<Measured, 4> by_level;
  for (int round = 0; round < options.rounds; ++round) {
    for (int level = 0; level < 4; ++level)
      measure(options, config, *stage, *codec, text_dim, machine, level, memory, &by_level[level]);
  }
  c10::SetCPUAllocator(before, 1);
  if (machine.world().rank() != 0) return;
  const double plain = median(by_level[0].seconds);
  fmt::print("{} processes, {} of {} samples each, medians of {} x {} steps\n",
             machine.world().size(), stage->name, options.batch, options.rounds, options.steps);
  fmt::print("{:>10}{:>14}{:>8}{:>12}{:>8}\n", "mesh.zero", "ms per step", "ratio", "peak MB",
             "ratio");
  for (int level = 0; level < 4; ++level) {
    const double seconds = median(by_level[level].seconds);
    const auto peak = static_cast<double>(by_level[level].peak);
    fmt::print("{:>10}{:>14.1f}{:>8.2f}{:>12.1f}{:>8.2f}\n", level, 1e3 * seconds, seconds / plain,
               peak / 1e6, peak / static_cast<double>(by_level[0].peak));
  }
}

}  // namespace

void add_bench_sharding(CLI::App& bench) {
  auto options = std::make_shared<ShardingOptions>();
  CLI::App* command = bench.add_subcommand(
      "sharding", "step and memory at every level of mesh.zero; start it by mpirun");
  add_config_options(*command, *options);
  const auto positive = [&](const char* name, int& value, const char* help) {
    command->add_option(name, value, help)->check(CLI::Range(1, kMostOfAnything));
  };
  command->add_option("--stage", options->stage,
                      "stage whose shape is used; the first if not given");
  positive("--batch", options->batch, "samples per step of a process");
  positive("--steps", options->steps, "steps measured in a turn, after one that is not");
  positive("--rounds", options->rounds, "turns of every level");
  command->callback([options] { bench_sharding(*options); });
}

}  // namespace pendulum
