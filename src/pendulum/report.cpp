// Formats a plan and its simulation for people.
#include "pendulum/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "pendulum/simulator.h"

namespace pendulum {
namespace {

using Row = std::vector<std::string>;

// Columns aligned: the first to the left, the others to the right.
std::string table(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const Row& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const Row& row : rows) {
    out += fmt::format("  {:<{}}", row[0], widths[0]);
    for (size_t c = 1; c < row.size(); ++c) out += fmt::format("  {:>{}}", row[c], widths[c]);
    out += "\n";
  }
  return out;
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

double memory_of(const Plan& plan, const BucketPlan& bucket) {
  return state_bytes(plan.geometry, plan.moving_average, plan.updaters) +
         activation_bytes(plan.geometry, bucket.shape, bucket.batch, bucket.width,
                          plan.options.number_bytes);
}

double traffic_of(const Plan& plan, const BucketPlan& bucket) {
  return bucket.batch *
         communication_bytes(plan.geometry, bucket.shape, bucket.width, plan.options.number_bytes);
}

std::string bucket_table(const Plan& plan, const SegmentPlan& segment) {
  std::vector<Row> rows{{"bucket", "samples", "tokens", "width", "batch", "per draw", "rate",
                         "per step", "of samples", "of FLOPs", "epochs", "memory", "traffic"}};
  for (const BucketPlan& bucket : segment.buckets) {
    rows.push_back(
        {bucket.name, std::to_string(bucket.entries.size()), std::to_string(bucket.tokens),
         std::to_string(bucket.width), std::to_string(bucket.batch), std::to_string(bucket.block),
         fmt::format("{:.4f}", bucket.probability), fmt::format("{:.2f}", bucket.samples),
         percent(bucket.samples / segment.expected_samples), percent(bucket.share),
         fmt::format("{:.2f}", bucket.epochs), short_number(memory_of(plan, bucket), "B"),
         short_number(traffic_of(plan, bucket), "B")});
  }
  return table(rows);
}

std::string balance_table(const SegmentPlan& segment, const Simulation& simulation) {
  std::vector<Row> rows{{"balance", "utilisation", "FLOPs of a micro-step", "samples per step"}};
  for (const SchemeResult& scheme : simulation.schemes) {
    rows.push_back({scheme.name, percent(scheme.utilisation),
                    short_number(scheme.micro_step, "FLOP"),
                    fmt::format("{:.1f}", scheme.samples_per_step)});
  }
  double off = 0;
  for (size_t s = 0; s < simulation.expected_shares.size(); ++s) {
    off = std::max(off, std::abs(simulation.simulated_shares[s] - simulation.expected_shares[s]));
  }
  std::string out = table(rows);
  out += fmt::format(
      "  slowest slot / mean: {:.3f}, at worst {:.3f}; drift at most {:.1f} draws (independent "
      "draws: {:.1f}); "
      "mixture within {:.3f} % of what was asked\n",
      simulation.mean_imbalance, simulation.worst_imbalance, simulation.drift, simulation.iid_drift,
      100 * off);
  out += fmt::format(
      "  samples per step vary by {}; a slot opens {:.2f} buckets per dwell of {}, at most {} ({} "
      "micro-steps simulated)\n",
      percent(simulation.sample_variation), simulation.opened_mean, segment.dwell,
      simulation.opened_most, simulation.micro_steps);
  return out;
}

std::string segment_report(const Plan& plan, int ordinal, int64_t simulated) {
  const SegmentPlan& segment = plan.segments[ordinal];
  const double flops = segment.expected_flops * static_cast<double>(segment.steps);
  std::string out =
      fmt::format("\nstage {} {}: {} steps, {} per step, {} in all, {} of the run\n", ordinal + 1,
                  segment.stage_name, segment.steps, short_number(segment.expected_flops, "FLOP"),
                  short_number(flops, "FLOP"), percent(flops / plan.total_flops()));
  out += fmt::format(
      "  {:.2f} samples and {:.0f} tokens expected per step; the loss is divided by {:.2f}\n",
      segment.expected_samples, segment.expected_tokens, segment.loss_denominator);
  out += bucket_table(plan, segment);
  for (const SourceCatalogue& source : plan.sources) {
    const double epochs = plan.epochs(source.name, ordinal);
    if (epochs > 0)
      out += fmt::format("  source {}: {:.2f} epochs in this stage\n", source.name, epochs);
  }
  const int64_t micro_steps = std::min(simulated, segment.steps * segment.accumulate);
  out += balance_table(segment, simulate(plan, ordinal, micro_steps));
  for (const std::string& warning : segment.warnings) out += "  warning: " + warning + "\n";
  return out;
}

}  // namespace

std::string short_number(double value, const std::string& unit) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E", "Z"};
  int prefix = 0;
  while (value >= 999.5 && prefix < 7) {
    value /= 1000;
    ++prefix;
  }
  if (prefix == 0 && value == static_cast<int>(value)) {
    return fmt::format("{:.0f}{}{}", value, unit.empty() ? "" : " ", unit);
  }
  return fmt::format("{:.{}f} {}{}", value,
                     value < 9.995   ? 2
                     : value < 99.95 ? 1
                                     : 0,
                     kPrefixes[prefix], unit);
}

std::string plan_report(const Plan& plan, int64_t simulated) {
  const SegmentPlan& first = plan.segments.front();
  std::string out =
      fmt::format("run {}: seed {}, {} slots of {}, {} micro-steps per step, dwell {}, beat {}\n",
                  plan.run_name, plan.seed, first.slots, plan.slot, first.accumulate, first.dwell,
                  plan.beat > 0 ? short_number(plan.beat, "FLOP") : "not set");
  out += fmt::format(
      "model: {} parameters, width {}, {} layers; {} of weights, gradients and optimiser per "
      "process\n",
      short_number(static_cast<double>(parameter_count(plan.geometry)), ""), plan.geometry.width,
      plan.geometry.layers,
      short_number(state_bytes(plan.geometry, plan.moving_average, plan.updaters), "B"));
  for (size_t i = 0; i < plan.segments.size(); ++i)
    out += segment_report(plan, static_cast<int>(i), simulated);
  out += fmt::format("\nrun: {} steps, {}\n", plan.total_steps(),
                     short_number(plan.total_flops(), "FLOP"));
  for (const SourceCatalogue& source : plan.sources) {
    out += fmt::format("  source {}: {} training samples, {:.2f} epochs\n", source.name,
                       source.samples.size(), plan.epochs(source.name));
  }
  for (const std::string& warning : plan.warnings) out += "  warning: " + warning + "\n";
  out += "  plan " + plan.hash().substr(0, 16) + "\n";
  return out;
}

}  // namespace pendulum
