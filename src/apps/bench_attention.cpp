// pendulum bench attention: attention over several ranks of this process, layout by layout, beside
// one rank.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "apps/commands.h"
#include "attention/distributed_attention.h"
#include "comm/loopback.h"
#include "core/random.h"
#include "ops/attention.h"

namespace pendulum {
namespace {

struct AttentionOptions {
  int ranks = 4;
  int64_t batch = 1, tokens = 2048, heads = 12, head_dim = 128;
  int steps = 5;
};

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

at::Tensor random_input(const AttentionOptions& options, int64_t tokens, uint64_t key) {
  at::Tensor x = at::empty({options.batch, tokens, options.heads, options.head_dim});
  fill_normal(x.data_ptr<float>(), x.numel(), key);
  return x;
}

// Median seconds of forward and backward; `meet` brings the ranks together before each.
template <class Attend, class Meet>
double median_seconds(const AttentionOptions& options, int64_t tokens, const Attend& attend,
                      const Meet& meet) {
  std::vector<at::Tensor> x;
  for (uint64_t i = 0; i < 3; ++i)
    x.push_back(random_input(options, tokens, i).requires_grad_(true));
  std::vector<double> seconds;
  for (int step = 0; step <= options.steps; ++step) {
    meet();
    const double start = seconds_now();
    const at::Tensor out = attend(x);
    out.backward(at::ones_like(out));
    meet();
    if (step > 0) seconds.push_back(seconds_now() - start);  // the first warms up
    for (at::Tensor& input : x) input.mutable_grad().reset();
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

// Bytes that a rank sends in a layer, forward and backward, for fp32: docs/numerics.md.
SequenceGroup::Traffic expected_traffic(const AttentionOptions& options, int64_t per_rank,
                                        int64_t u, int64_t r) {
  const int64_t local = options.batch * per_rank * options.heads * options.head_dim * 4;
  return {8 * local / u * (u - 1), r == 1 ? 0 : 2 * local * (2 * (r - 1) + r)};
}

void bench_layout(const AttentionOptions& options, int u, int threads, double alone) {
  double seconds = 0;
  SequenceGroup::Traffic sent, expected;
  run_loopback(options.ranks, [&](Communicator& members) {
    at::set_num_threads(threads);
    SequenceGroup group(members, u);
    const int64_t per_rank = group.tokens_per_rank(options.tokens);
    const double median = median_seconds(
        options, per_rank,
        [&](const std::vector<at::Tensor>& x) {
          return distributed_attention(x[0], x[1], x[2], group, options.tokens);
        },
        [&] { members.barrier(); });
    if (members.rank() != 0) return;
    seconds = median;
    sent = {group.traffic().ulysses / (options.steps + 1),
            group.traffic().ring / (options.steps + 1)};
    expected = expected_traffic(options, per_rank, u, options.ranks / u);
  });
  fmt::print("{:>3} {:>3} {:>14} {:>14} {:>14} {:>14} {:>9.1f} {:>7.2f}\n", u, options.ranks / u,
             sent.ulysses, expected.ulysses, sent.ring, expected.ring, seconds * 1e3,
             seconds / alone);
}

void bench_attention(const AttentionOptions& options) {
  const int cores = at::get_num_threads();
  const int threads = std::max(1, cores / options.ranks);
  at::set_num_threads(std::min(cores, threads * options.ranks));
  const double alone = median_seconds(
      options, options.tokens,
      [](const std::vector<at::Tensor>& x) { return attention(x[0], x[1], x[2]); }, [] {});
  fmt::print("{} tokens, {} heads of {}, batch {}, fp32; forward and backward of one layer\n",
             options.tokens, options.heads, options.head_dim, options.batch);
  fmt::print("one rank, {} threads: {:.1f} ms\n", at::get_num_threads(), alone * 1e3);
  fmt::print("{} ranks as threads of this process, {} each; bytes that a rank sends\n",
             options.ranks, threads);
  fmt::print("{:>3} {:>3} {:>14} {:>14} {:>14} {:>14} {:>9} {:>7}\n", "U", "R", "all-to-all",
             "by formula", "ring", "by formula", "ms", "ratio");
  for (int u = 1; u <= options.ranks; ++u) {
    if (options.ranks % u == 0 && options.heads % u == 0) bench_layout(options, u, threads, alone);
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
