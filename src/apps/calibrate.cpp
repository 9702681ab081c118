// Times passes in turns and fits.
#include "apps/calibrate.h"

#include <ATen/ATen.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <map>
#include <numeric>
#include <set>

#include "apps/timing.h"
#include "attention/slot_groups.h"
#include "core/error.h"
#include "core/log.h"
#include "pendulum/memory.h"
#include "pendulum/report.h"

namespace pendulum {
namespace {

constexpr int kRounds = 4;        // measured, after one that warms up
constexpr double kTypical = 0.2;  // seconds that a batch is to take
constexpr int kLargestBatch = 256;

struct NamedShape {
  std::string name;
  Shape shape;
  double flops = 0;
  bool operator<(const NamedShape& other) const { return flops < other.flops; }
};

// Of all stages, each once, light first.
std::vector<NamedShape> shapes_of(const Plan& plan) {
  std::set<Shape> seen;
  std::vector<NamedShape> out;
  for (const SegmentPlan& segment : plan.segments) {
    for (const BucketPlan& bucket : segment.buckets) {
      if (seen.insert(bucket.shape).second)
        out.push_back({bucket.name, bucket.shape, bucket.flops});
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Seconds of one pass, of the process that is ready last.
double timed(TrainingPass& pass, const MeasuredPass& what, const SlotGroups& groups,
             Communicator& world) {
  world.barrier();
  const double start = seconds_now();
  pass.run(what.shape, what.batch, what.width > 1 ? &groups.of(what.width) : nullptr);
  at::Tensor seconds = at::tensor({seconds_now() - start}, at::kDouble);
  world.all_reduce(seconds, Reduce::max).wait();
  return seconds.item<double>();
}

// Which passes to measure: of every shape and width one sample, as many as take kTypical, and some
// between. A first look at each shape says how many those are, and whether it is too long.
std::vector<MeasuredPass> choose_passes(const Plan& plan, TrainingPass& pass,
                                        const SlotGroups& groups, Communicator& world,
                                        double longest) {
  std::vector<MeasuredPass> out;
  double seconds_per_flop = 0;  // of the shape before
  for (const NamedShape& shape : shapes_of(plan)) {
    if (shape.flops * seconds_per_flop > longest) {
      if (world.rank() == 0)
        warn("{}: a pass would take {} here, more than --longest; left out", shape.name,
             short_time(shape.flops * seconds_per_flop));
      continue;
    }
    timed(pass, {shape.name, shape.shape, 1, 1, 0}, groups, world);
    const double one = timed(pass, {shape.name, shape.shape, 1, 1, 0}, groups, world);
    seconds_per_flop = one / shape.flops;
    const int many = static_cast<int>(std::clamp(kTypical / one, 1.0, double{kLargestBatch}));
    for (const int width : groups.widths()) {
      for (const int batch : std::set<int>{1, static_cast<int>(std::lround(std::sqrt(many))), many})
        out.push_back({shape.name, shape.shape, width, batch, 0});
    }
  }
  return out;
}

std::string today() { return fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))); }

double free_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  double kilobytes = 0;
  while (file >> word) {
    if (word == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
  }
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
}

}  // namespace

void check_calibration_memory(const Geometry& geometry, const Machine& machine) {
  if (machine.device().is_cuda()) return;  // the device says so itself when it is full
  // On the CPU its own memory is the one in which weights wait.
  const ProcessMemory state = state_memory(geometry, OptimizerMemory{});
  const double need = state.weights + state.gradients + state.host;
  const double there = free_bytes() / std::max(1, machine.world().size());
  if (need <= there) return;
  throw ConfigError(
      text("--calibrate: weights and gradients of this model take ", short_number(need, "B"),
           ", this machine has ", short_number(there, "B"),
           " free for each process. Calibrate on a machine like those the run is for; without, the "
           "plan computes costs from mesh.device_flops and mesh.efficiency"));
}

Calibration calibrate(const Plan& plan, TrainingPass& pass, const Machine& machine,
                      double longest) {
  Communicator& world = machine.world();
  std::vector<int> widths;
  for (int width = 1; width <= std::min(plan.slot, world.size()); ++width) {
    if (plan.slot % width == 0 && world.size() % width == 0) widths.push_back(width);
  }
  // All processes in one slot: groups of every width lie in it.
  const SlotGroups groups(world, world.size(), widths, plan.geometry.heads);
  Calibration out;
  out.geometry = plan.geometry;
  out.device = machine.device_words();
  out.date = today();
  out.program = PENDULUM_VERSION;
  out.number_bytes = machine.device().is_cuda() ? 2 : 4;
  out.passes = choose_passes(plan, pass, groups, world, longest);
  std::vector<std::vector<double>> seconds(out.passes.size());
  for (int round = 0; round <= kRounds; ++round) {
    for (size_t i = 0; i < out.passes.size(); ++i) {
      const double once = timed(pass, out.passes[i], groups, world);
      if (round > 0) seconds[i].push_back(once);
    }
  }
  for (size_t i = 0; i < out.passes.size(); ++i) out.passes[i].seconds = median(seconds[i]);
  out.cost = fit_costs(plan.geometry, out.passes, out.number_bytes);
  return out;
}

std::string calibration_table(const Calibration& calibration) {
  const std::vector<double> errors = relative_errors(calibration);
  std::string out = fmt::format("{:<24} {:>6} {:>6} {:>12} {:>12} {:>8}\n", "bucket", "width",
                                "batch", "measured, ms", "fitted, ms", "error");
  for (size_t i = 0; i < errors.size(); ++i) {
    const MeasuredPass& pass = calibration.passes[i];
    const double fitted =
        predicted_seconds(calibration.geometry, pass, calibration.cost, calibration.number_bytes);
    out += fmt::format("{:<24} {:>6} {:>6} {:>12.2f} {:>12.2f} {:>6.1f} %\n", pass.bucket,
                       pass.width, pass.batch, pass.seconds * 1e3, fitted * 1e3, errors[i] * 100);
  }
  return out + fmt::format("error of the fit: median {:.1f} %, worst {:.1f} %\n",
                           median(errors) * 100,
                           *std::max_element(errors.begin(), errors.end()) * 100);
}

}  // namespace pendulum
