// pendulum bench attention: attention over several ranks of this process, layout by layout, beside
// one rank.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>
#include <vector>

#include "apps/commands.h"
#include "apps/timing.h"
#include "attention/distributed_attention.h"
#include "comm/loopback.h"
#include "ops/attention.h"
#include "ops/random_tensor.h"

namespace pendulum {
namespace {

struct AttentionOptions {
  int ranks = 4;
  int64_t batch = 1, tokens = 2048, heads = 12, head_dim = 128;
  int steps = 5;
};

// Three inputs that want gradients.
std::vector<at::Tensor> leaves(const AttentionOptions& options, int64_t tokens) {
  std::vector<at::Tensor> x;
  for (uint64_t i = 0; i < 3; ++i) {
    x.push_back(random_tensor({options.batch, tokens, options.heads, options.head_dim}, i)
                    .requires_grad_(true));
  }
  return x;
}

template <class Attend>
void forward_and_backward(std::vector<at::Tensor>& x, const Attend& attend) {
  const at::Tensor out = attend(x);
  out.backward(at::ones_like(out));
  for (at::Tensor& input : x) input.mutable_grad().reset();
}

// Bytes that a rank sends in a layer, forward and backward, for fp32: docs/numerics.md.
SequenceGroup::Traffic expected_traffic(const AttentionOptions& options, int64_t per_rank,
                                        int64_t u, int64_t r) {
  const int64_t local = options.batch * per_rank * options.heads * options.head_dim * 4;
  return {8 * local / u * (u - 1), r == 1 ? 0 : 2 * local * (2 * (r - 1) + r)};
}

// One rank with all threads, and all ranks with their share of them, in turns.
void bench_layout(const AttentionOptions& options, int u, int cores) {
  const int threads = std::max(1, cores / options.ranks);
  std::vector<double> alone, shared;
  SequenceGroup::Traffic sent, expected;
  run_loopback(options.ranks, [&](Communicator& members) {
    SequenceGroup group(members, u);
    const int64_t per_rank = group.tokens_per_rank(options.tokens);
    auto whole = leaves(options, members.rank() == 0 ? options.tokens : 0);
    auto part = leaves(options, per_rank);
    for (int step = 0; step <= options.steps; ++step) {  // the first warms up
      if (members.rank() == 0) {
        at::set_num_threads(std::min(cores, threads * options.ranks));
        const double start = seconds_now();
        forward_and_backward(whole, [](const auto& x) { return attention(x[0], x[1], x[2]); });
        if (step > 0) alone.push_back(seconds_now() - start);
      }
      at::set_num_threads(threads);
      members.barrier();
      const double start = seconds_now();
      forward_and_backward(part, [&](const auto& x) {
        return distributed_attention(x[0], x[1], x[2], group, options.tokens);
      });
      members.barrier();
      if (step > 0 && members.rank() == 0) shared.push_back(seconds_now() - start);
    }
    if (members.rank() != 0) return;
    sent = {group.traffic().ulysses / (options.steps + 1),
            group.traffic().ring / (options.steps + 1)};
    expected = expected_traffic(options, per_rank, u, options.ranks / u);
  });
  fmt::print("{:>3} {:>3} {:>14} {:>14} {:>14} {:>14} {:>9.1f} {:>9.1f} {:>7.2f}\n", u,
             options.ranks / u, sent.ulysses, expected.ulysses, sent.ring, expected.ring,
             median(alone) * 1e3, median(shared) * 1e3, median(shared) / median(alone));
}

void bench_attention(const AttentionOptions& options) {
  const int cores = at::get_num_threads();
  fmt::print("{} tokens, {} heads of {}, batch {}, fp32; forward and backward of one layer\n",
             options.tokens, options.heads, options.head_dim, options.batch);
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
  command->callback([options] { bench_attention(*options); });
}

}  // namespace pendulum
