// pendulum bench data: training micro-steps of two sources whose samples differ tenfold in cost,
// the pendulum beside independent slots, in turns.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>
#include <numeric>

#include "apps/calibrate.h"
#include "apps/commands.h"
#include "apps/embedding_parts.h"
#include "apps/machine.h"
#include "apps/timing.h"
#include "apps/training_pass.h"
#include "core/error.h"
#include "core/log.h"
#include "optim/optimizer.h"
#include "pendulum/simulator.h"

namespace pendulum {
namespace {

struct DataOptions {
  double clips = 0.2;  // share of samples
  int rounds = 6, steps = 4;
};

constexpr int kTextDim = 384;

// Stills of 64 tokens and clips of 704, a slot for every process. A beat is a clip; a step holds
// four micro-steps.
Config bench_config(const DataOptions& options, int processes) {
  Config config;
  config.run.name = "bench-data";
  config.mesh.slots = processes;
  config.mesh.accumulate = 4;
  config.mesh.beat.flops = 1;  // until costs are measured
  config.codec.drop = 1;
  config.text.length = 16;
  config.sources["stills"] = config.sources["clips"] = {};
  StageConfig stage;
  stage.name = "bench";
  stage.steps = 1'000'000;
  stage.shape = {41, 64, 64};
  stage.sources = {{"clips", options.clips}, {"stills", 1 - options.clips}};
  stage.shapes["stills"] = {1, 64, 64};
  config.stages = {stage};
  return config;
}

std::vector<SourceCatalogue> many_samples(const Config& config) {
  std::vector<SourceCatalogue> out;
  for (const auto& [name, source] : config.sources) {
    out.push_back({name, "", std::vector<int64_t>(1000), {{}}});
    std::iota(out.back().samples.begin(), out.back().samples.end(), int64_t{0});
    out.back().frames[0].assign(1000, config.stages[0].shape_of(name).frames);
  }
  return out;
}

// The plan whose beat is one clip by measured costs.
Plan measured_plan(Config config, const Calibration& measured) {
  PlanOptions options;
  options.cost = measured.cost;
  options.measured = measured.words();
  config.mesh.beat.flops = pass_cost(measured.geometry, config.stages[0].shape, 1, 1, measured.cost,
                                     measured.number_bytes);
  return make_plan(config, many_samples(config), measured.geometry, options);
}

// A layout on its way through its micro-steps.
struct Walk {
  Layout layout;
  Segment rule;
  int64_t micro_steps_per_step = 1, t = 0;
  Swing swing{};
  double seconds = 0;
  int64_t samples = 0;  // of all processes
  double flops = 0;     // the model's, of these samples
};

class DataBench {
 public:
  DataBench(const Plan& plan, TrainingPass& pass, Communicator& world)
      : plan_(plan),
        segment_(plan.segments[0]),
        pass_(pass),
        world_(world),
        optimizer_(pass.model().parameters(), OptimizerKind::adamw, false) {}

  // One optimiser step. With `in_step` a micro-step ends when all processes are ready, as where
  // weights or gradients are shared out; else they meet for the sum of the gradients alone.
  void step(Walk& walk, bool in_step) {
    world_.barrier();
    const double start = seconds_now();
    for (int64_t i = 0; i < walk.micro_steps_per_step; ++i) {
      micro_step(walk);
      if (in_step) world_.barrier();
    }
    for (const auto& [name, parameter] : optimizer_.parameters())
      world_.all_reduce(parameter.grad(), Reduce::sum).wait();
    optimizer_.step({}, 1e-4, 1.0 / (optimizer_.gradient_norm() + 1));
    optimizer_.zero_gradients();
    world_.barrier();
    walk.seconds += seconds_now() - start;
  }

 private:
  void micro_step(Walk& walk) {
    walk.rule.sources(walk.t, walk.swing, &buckets_);
    if (walk.layout.drawing == Drawing::independent)
      independent_sources(walk.rule, plan_.seed, walk.t, &buckets_);
    ++walk.t;
    for (const int s : buckets_) {
      walk.samples += walk.layout.loads[s].block;
      walk.flops += walk.layout.loads[s].useful;
    }
    const int mine = buckets_[world_.rank()];
    pass_.run(segment_.buckets[mine].shape, static_cast<int>(walk.layout.loads[mine].block));
  }

  const Plan& plan_;
  const SegmentPlan& segment_;
  TrainingPass& pass_;
  Communicator& world_;
  Optimizer optimizer_;
  std::vector<int> buckets_;
};

// The pendulum and the two ways of independent slots.
std::vector<Walk> walks_of(const Plan& plan) {
  std::vector<Walk> out;
  for (Layout& layout : layouts_of(plan, 0)) {
    if (out.size() == 3) break;
    const Segment rule = rule_of(plan, plan.segments[0], 0, layout);
    const int64_t per_step = micro_steps_per_step(plan.segments[0], layout);
    out.push_back({std::move(layout), rule, per_step});
  }
  return out;
}

// Chance gives independent slots more or fewer clips than were asked for; a sample "of the mixture"
// is as much work as the asked mixture's mean.
void print_walks(const std::vector<Walk>& walks, const SegmentPlan& segment,
                 const Simulation& simulation, const char* title) {
  fmt::print("{}\n{:<26} {:>8} {:>9} {:>11} {:>15} {:>13} {:>11}\n", title, "layout", "samples",
             "seconds", "ms/sample", "of the mixture", "pendulum is", "predicted");
  const double work = segment.expected_flops / segment.expected_samples;
  const auto per_sample = [&](const Walk& walk) { return walk.seconds / walk.flops * work; };
  for (size_t i = 0; i < walks.size(); ++i) {
    const Walk& walk = walks[i];
    fmt::print("{:<26} {:>8} {:>9.2f} {:>11.2f} {:>15.2f} {:>11.2f} x {:>9.2f} x\n",
               walk.layout.name, walk.samples, walk.seconds,
               walk.seconds / static_cast<double>(walk.samples) * 1e3, per_sample(walk) * 1e3,
               per_sample(walk) / per_sample(walks[0]),
               simulation.layouts[i].cost_per_sample / simulation.layouts[0].cost_per_sample);
  }
}

void bench_data(const DataOptions& options) {
  const Machine machine(MeshConfig{});
  Communicator& world = machine.world();
  const Config config = bench_config(options, world.size());
  const std::unique_ptr<Codec> codec = make_codec(config.codec);
  const Geometry sizes =
      geometry(config, *codec, wan_config(config.model, {codec->channels(), kTextDim}));
  TrainingPass pass(config, machine, sizes);
  const Plan shapes = make_plan(config, many_samples(config), sizes, PlanOptions{});
  const Calibration measured = calibrate(shapes, pass, machine, 30);
  const Plan plan = measured_plan(config, measured);
  const SegmentPlan& segment = plan.segments[0];
  if (world.rank() == 0) {
    std::fputs(calibration_table(measured).c_str(), stdout);
    const auto one = [&](size_t s) {
      return pass_cost(plan.geometry, segment.buckets[s].shape, 1, 1, plan.options.cost, 4);
    };
    fmt::print(
        "{} processes, {:.0f} % clips; a clip costs {:.1f} x a still alone, {:.1f} x one of the {} "
        "that a process takes at once\n",
        world.size(), options.clips * 100, one(1) / one(0),
        one(1) / (segment.buckets[0].cost / segment.buckets[0].batch), segment.buckets[0].batch);
  }
  const Simulation simulation = simulate(plan, 0, 4000);
  DataBench bench(plan, pass, world);
  for (const bool in_step : {true, false}) {
    std::vector<Walk> walks = walks_of(plan);
    for (Walk& walk : walks) {  // the first step of each is not counted
      bench.step(walk, in_step);
      walk.seconds = walk.flops = 0;
      walk.samples = 0;
    }
    for (int round = 0; round < options.rounds; ++round) {
      for (Walk& walk : walks) {
        for (int i = 0; i < options.steps; ++i) bench.step(walk, in_step);
      }
    }
    if (world.rank() == 0)
      print_walks(walks, segment, simulation,
                  in_step ? "\nprocesses meet after every micro-step"
                          : "\nprocesses meet for the gradients alone");
  }
}

}  // namespace

void add_bench_data(CLI::App& bench) {
  auto options = std::make_shared<DataOptions>();
  CLI::App* command = bench.add_subcommand(
      "data",
      "micro-steps of stills and clips, the pendulum beside independent slots, in turns; "
      "under mpirun -n 2");
  command->add_option("--clips", options->clips, "share of samples that are clips")
      ->check(CLI::Range(0.01, 0.99))
      ->capture_default_str();
  command->add_option("--rounds", options->rounds, "turns")
      ->check(CLI::Range(1, kMostOfAnything))
      ->capture_default_str();
  command->add_option("--steps", options->steps, "optimiser steps of a turn")
      ->check(CLI::Range(1, kMostOfAnything))
      ->capture_default_str();
  command->callback([options] { bench_data(*options); });
}

}  // namespace pendulum
