// pendulum bench attention: the attention layer over several ranks of this process (norms,
// rotation, layout, attention, merge), layout by layout, beside one rank's bare attention.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#ifdef PENDULUM_CUDA
#include <cuda_runtime_api.h>
#endif

#include "apps/commands.h"
#include "apps/machine.h"
#include "apps/timing.h"
#include "attention/distributed_attention.h"
#include "comm/loopback.h"
#include "core/error.h"
#include "ops/attention.h"
#include "ops/norm_rotary.h"
#include "ops/random_tensor.h"
#include "pendulum/cost.h"

namespace pendulum {
namespace {

struct AttentionOptions {
  at::Device device = at::kCPU;
  int ranks = 4;
  int64_t batch = 1, tokens = 2048, heads = 12, head_dim = 128;
  int steps = 5;
};

// fp32 on a CPU; activations in bf16 on a GPU, weights and tables in fp32.
at::ScalarType compute_type(const AttentionOptions& options) {
  return options.device.is_cuda() ? at::kBFloat16 : at::kFloat;
}

at::Tensor leaf(const AttentionOptions& options, at::IntArrayRef sizes, uint64_t key,
                at::ScalarType type) {
  return random_tensor(sizes, key).to(options.device, type).requires_grad_(true);
}

// Queries, keys and values as attention takes them.
std::vector<at::Tensor> heads_of(const AttentionOptions& options, int64_t tokens) {
  std::vector<at::Tensor> x;
  for (uint64_t i = 0; i < 3; ++i)
    x.push_back(leaf(options, {options.batch, tokens, options.heads, options.head_dim}, i,
                     compute_type(options)));
  return x;
}

// What the layer begins with: the projections side by side, and the weights of both norms.
std::vector<at::Tensor> projections_of(const AttentionOptions& options, int64_t tokens) {
  const int64_t dim = options.heads * options.head_dim;
  return {leaf(options, {options.batch, tokens, 3 * dim}, 0, compute_type(options)),
          leaf(options, {dim}, 1, at::kFloat), leaf(options, {dim}, 2, at::kFloat)};
}

RotaryTables tables_of(const AttentionOptions& options, int64_t tokens) {
  const at::Tensor angles = random_tensor({tokens, options.head_dim / 2}, 3);
  return {angles.cos().to(options.device), angles.sin().to(options.device)};
}

template <class Attend>
void forward_and_backward(std::vector<at::Tensor>& x, const Attend& attend) {
  const at::Tensor out = attend(x);
  out.backward(at::ones_like(out));
  for (at::Tensor& input : x) input.mutable_grad().reset();
}

// The clock, once the device has done what it was given.
double seconds_when_done([[maybe_unused]] const AttentionOptions& options) {
#ifdef PENDULUM_CUDA
  if (options.device.is_cuda() && cudaDeviceSynchronize() != cudaSuccess)
    throw Error("the GPU failed under the bench");
#endif
  return seconds_now();
}

// One rank with all threads, and all ranks with their share of them, in turns. On a GPU all ranks
// queue on one stream, so their time is the sum of what they do.
void bench_layout(const AttentionOptions& options, int u, int cores) {
  const int threads = std::max(1, cores / options.ranks);
  std::vector<double> alone, shared;
  SequenceGroup::Traffic sent;
  Traffic expected;
  run_loopback(options.ranks, [&](Communicator& members) {
    SequenceGroup group(members, u);
    const int64_t per_rank = group.tokens_per_rank(options.tokens);
    auto whole = heads_of(options, members.rank() == 0 ? options.tokens : 0);
    auto part = projections_of(options, per_rank);
    const RotaryTables tables = tables_of(options, per_rank);
    for (int step = 0; step <= options.steps; ++step) {  // the first warms up
      if (members.rank() == 0) {
        at::set_num_threads(std::min(cores, threads * options.ranks));
        const double start = seconds_when_done(options);
        forward_and_backward(whole, [](const auto& x) { return attention(x[0], x[1], x[2]); });
        if (step > 0) alone.push_back(seconds_when_done(options) - start);
      }
      at::set_num_threads(threads);
      members.barrier();
      const double start = seconds_now();
      forward_and_backward(part, [&](const auto& x) {
        return distributed_attention(
            norm_rotary_dealt(x[0], {x[1], x[2]}, tables, options.heads, 1e-6, u), group,
            options.tokens);
      });
      members.barrier();
      if (step > 0 && members.rank() == 0) shared.push_back(seconds_when_done(options) - start);
    }
    if (members.rank() != 0) return;
    sent = {group.traffic().ulysses / (options.steps + 1),
            group.traffic().ring / (options.steps + 1)};
    const int64_t numbers = options.batch * per_rank * options.heads * options.head_dim;
    expected = attention_traffic(static_cast<double>(numbers), options.device.is_cuda() ? 2 : 4, u,
                                 options.ranks / u);
  });
  fmt::print("{:>3} {:>3} {:>14} {:>14.0f} {:>14} {:>14.0f} {:>9.1f} {:>9.1f} {:>7.2f}\n", u,
             options.ranks / u, sent.ulysses, expected.exchanged, sent.ring, expected.passed,
             median(alone) * 1e3, median(shared) * 1e3, median(shared) / median(alone));
}

void bench_attention(const AttentionOptions& options) {
  const int cores = at::get_num_threads();
  fmt::print("{} tokens, {} heads of {}, batch {}, {} on {}; forward and backward of one layer\n",
             options.tokens, options.heads, options.head_dim, options.batch,
             options.device.is_cuda() ? "bf16" : "fp32", options.device.str());
  fmt::print(
      "{} ranks as threads of this process beside one rank, in turns; {} threads in all; "
      "bytes that a rank sends\n",
      options.ranks, cores);
  fmt::print("{:>3} {:>3} {:>14} {:>14} {:>14} {:>14} {:>9} {:>9} {:>7}\n", "U", "R", "all-to-all",
             "by formula", "ring", "by formula", "one, ms", "all, ms", "ratio");
  for (int u = 1; u <= options.ranks; ++u) {
    if (options.ranks % u == 0 && options.heads % u == 0) bench_layout(options, u, cores);
  }
}

}  // namespace

void add_bench_attention(CLI::App& bench) {
  auto options = std::make_shared<AttentionOptions>();
  auto device = std::make_shared<std::string>("auto");
  CLI::App* command = bench.add_subcommand(
      "attention", "attention over several ranks, every layout beside one rank");
  const auto positive = [&](const char* name, auto& value, const char* help) {
    command->add_option(name, value, help)
        ->check(CLI::Range(1, kMostOfAnything))
        ->capture_default_str();
  };
  positive("--ranks", options->ranks, "ranks that share the sequence");
  positive("--tokens", options->tokens, "tokens of the sequence");
  positive("--heads", options->heads, "attention heads");
  positive("--head-dim", options->head_dim, "elements of a head");
  positive("--batch", options->batch, "sequences");
  positive("--steps", options->steps, "measured passes, after one that is not");
  command->add_option("--device", *device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->callback([options, device] {
    options->device = choose_device(*device, 0);
    bench_attention(*options);
  });
}

}  // namespace pendulum
