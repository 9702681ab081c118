// The text of a plan and its simulation, and the figures behind it.
#include "pendulum/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace pendulum {
namespace {

// Columns aligned: the first to the left, the others to the right.
std::string table(const std::vector<ReportRow>& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const ReportRow& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const ReportRow& row : rows) {
    out += fmt::format("  {:<{}}", row[0], widths[0]);
    for (size_t c = 1; c < row.size(); ++c) out += fmt::format("  {:>{}}", row[c], widths[c]);
    out += "\n";
  }
  return out;
}

std::string balance_words(const SegmentPlan& segment, const Simulation& simulation) {
  return fmt::format(
      "  slowest slot / mean {:.3f}, at worst {:.3f}; drift at most {:.1f} draws (independent "
      "draws: {:.1f})\n"
      "  samples per step vary by {}; a slot opens {:.2f} buckets per dwell of {}, at most {}; "
      "{} micro-steps simulated\n",
      simulation.mean_imbalance, simulation.worst_imbalance, simulation.drift, simulation.iid_drift,
      percent(simulation.sample_variation), simulation.opened_mean, segment.dwell,
      simulation.opened_most, simulation.micro_steps);
}

std::string duration_words(const PlanReport& report, double seconds) {
  if (seconds <= 0) return "";
  std::string out = ", " + short_time(seconds);
  if (report.price > 0) out += fmt::format(", {:.0f} dollars", report.dollars(seconds));
  return out;
}

std::string segment_text(const PlanReport& report, size_t ordinal) {
  const Plan& plan = report.plan;
  const SegmentPlan& segment = plan.segments[ordinal];
  const Simulation& simulation = report.simulations[ordinal];
  const double flops = segment.expected_flops * static_cast<double>(segment.steps);
  std::string out = fmt::format(
      "\nstage {} {}: {} steps, {} per step, {} in all, {} of the run{}{}\n", ordinal + 1,
      segment.stage_name, segment.steps, short_number(segment.expected_flops, "FLOP"),
      short_number(flops, "FLOP"), percent(flops / plan.total_flops()),
      segment.compute > 0 ? text(" (asked: ", percent(segment.compute), ")") : "",
      duration_words(report, report.seconds(ordinal)));
  out += fmt::format(
      "  {:.2f} samples and {:.0f} tokens expected per step; the loss is divided by {:.2f}; {}\n",
      segment.expected_samples, segment.expected_tokens, segment.loss_denominator,
      parameter_words(plan.geometry));
  out += table(bucket_rows(plan, segment, simulation));
  for (const SourceCatalogue& source : plan.sources) {
    const double epochs = plan.epochs(source.name, static_cast<int>(ordinal));
    if (epochs > 0)
      out += fmt::format("  source {}: {:.2f} epochs in this stage\n", source.name, epochs);
  }
  out += table(memory_rows(plan, segment));
  out += table(layout_rows(plan, simulation));
  out += balance_words(segment, simulation);
  for (const std::string& warning : segment.warnings) out += "  warning: " + warning + "\n";
  return out;
}

}  // namespace

int PlanReport::processes() const { return plan.slot * plan.segments.front().slots; }

double PlanReport::seconds(size_t segment) const {
  const double rate = plan.options.cost.flops_per_second;
  if (rate <= 0) return 0;
  return simulations[segment].layouts.front().cost_per_sample *
         plan.segments[segment].expected_samples *
         static_cast<double>(plan.segments[segment].steps) / rate;
}

double PlanReport::seconds() const {
  double sum = 0;
  for (size_t i = 0; i < simulations.size(); ++i) sum += seconds(i);
  return sum;
}

double PlanReport::dollars(double duration) const { return duration / 3600 * processes() * price; }

std::vector<ReportRow> bucket_rows(const Plan& plan, const SegmentPlan& segment,
                                   const Simulation& simulation) {
  std::vector<ReportRow> rows{{"bucket", "entries", "tokens", "FLOPs", "width", "batch", "per draw",
                               "it takes", "rate", "per step", "of samples", "simulated",
                               "of FLOPs", "epochs", "memory", "sent"}};
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    const BucketPlan& bucket = segment.buckets[s];
    const std::string passes = bucket.passes > 1 ? text(bucket.passes, " x ") : "";
    rows.push_back(
        {bucket.name, std::to_string(bucket.entries.size()), std::to_string(bucket.tokens),
         short_number(bucket.flops, ""), std::to_string(bucket.width),
         passes + std::to_string(bucket.batch), std::to_string(bucket.block),
         cost_words(plan, bucket.cost), fmt::format("{:.4f}", bucket.probability),
         fmt::format("{:.2f}", bucket.samples), percent(simulation.expected_shares[s]),
         percent(simulation.simulated_shares[s]), percent(bucket.share),
         fmt::format("{:.2f}", bucket.epochs), short_number(memory_of(plan, bucket).total(), "B"),
         short_number(draw_traffic(plan, bucket), "B")});
  }
  return rows;
}

std::vector<ReportRow> layout_rows(const Plan& plan, const Simulation& simulation) {
  const double rate = plan.options.cost.flops_per_second;
  std::vector<ReportRow> rows{{"layout", "balance", "exchange", "micro-step", "samples in it",
                               rate > 0 ? "samples/s" : "samples/EFLOP", "pendulum is",
                               "lacks a bucket", "memory"}};
  const double own = simulation.layouts.front().cost_per_sample;
  for (const LayoutResult& layout : simulation.layouts) {
    rows.push_back({layout.name, percent(layout.balance), percent(layout.exchange),
                    cost_words(plan, layout.micro_step),
                    fmt::format("{:.1f}", layout.samples_per_micro_step),
                    fmt::format("{:.4g}", (rate > 0 ? rate : 1e18) / layout.cost_per_sample),
                    fmt::format("{:.2f} x", layout.cost_per_sample / own), percent(layout.missing),
                    short_number(layout.memory, "B") + (layout.fits ? "" : ", too much")});
  }
  return rows;
}

std::vector<ReportRow> memory_rows(const Plan& plan, const SegmentPlan& segment) {
  const ProcessMemory memory = most_memory(plan, segment);
  const double limit = plan.options.memory_bytes;
  std::vector<ReportRow> rows{{"memory per process", "bytes"}};
  const auto add = [&](const char* what, double bytes) {
    rows.push_back({what, short_number(bytes, "B")});
  };
  add("weights", memory.weights);
  add("gradients", memory.gradients);
  add("moments", memory.moments);
  add("average", memory.average);
  add("activations, of the largest pass", memory.activations);
  add("in all", memory.total());
  if (limit > 0) add("mesh.device_memory_gb", limit);
  if (memory.host > 0) add("in host memory beside it", memory.host);
  return rows;
}

ProcessMemory memory_of(const Plan& plan, const BucketPlan& bucket) {
  return plan.memory(bucket.shape, bucket.batch, bucket.width);
}

ProcessMemory most_memory(const Plan& plan, const SegmentPlan& segment) {
  ProcessMemory most;
  for (const BucketPlan& bucket : segment.buckets) {
    const ProcessMemory memory = memory_of(plan, bucket);
    if (memory.total() > most.total()) most = memory;
  }
  return most;
}

double attention_bytes(const Plan& plan, const BucketPlan& bucket) {
  return static_cast<double>(bucket.passes) * bucket.batch *
         sample_traffic(plan.geometry, bucket.shape, bucket.width, plan.options.number_bytes)
             .bytes();
}

double draw_traffic(const Plan& plan, const BucketPlan& bucket) {
  return attention_bytes(plan, bucket) + bucket.passes * plan.traffic.in_pass();
}

std::string traffic_words(const DealtTraffic& traffic) {
  const auto bytes = [](double count) { return short_number(count, "B"); };
  if (traffic.level < 2)
    return fmt::format("every process sends {} of gradients and weights in a step",
                       bytes(traffic.summed));
  std::string out =
      fmt::format("mesh.zero {}, over {} processes {}: every process sends ", traffic.level,
                  traffic.processes, traffic.is_within_slot ? "of a slot" : "of all slots");
  if (traffic.gathered > 0) out += bytes(traffic.gathered) + " of weights and ";
  out += bytes(traffic.reduced) + " of gradients in a pass";
  if (traffic.updated > 0) out += fmt::format(", {} of weights in a step", bytes(traffic.updated));
  if (traffic.summed > 0)
    out += fmt::format(", {} of gradients between slots in a step", bytes(traffic.summed));
  return out;
}

std::string cost_words(const Plan& plan, double cost) {
  const double rate = plan.options.cost.flops_per_second;
  return rate > 0 ? short_time(cost / rate) : short_number(cost, "FLOP");
}

std::string cost_model_words(const PlanOptions& options) {
  const CostModel& cost = options.cost;
  if (cost.flops_per_second <= 0) return "costs are counted in FLOPs";
  std::string out =
      options.measured.empty() ? "costs computed: " : "costs measured " + options.measured + ": ";
  out += short_number(cost.flops_per_second, "FLOP/s") + " a device";
  if (cost.attention != 1) out += fmt::format(", an attention FLOP {:.2f} x", cost.attention);
  const auto time = [&](const char* words, double flops) {
    if (flops > 0) out += fmt::format(", {} {}", words, short_time(flops / cost.flops_per_second));
  };
  time("a pass", cost.per_pass);
  time("a call", cost.per_call);
  const auto speed = [&](const char* words, double per_byte) {
    if (per_byte > 0)
      out += fmt::format(", {} {}", words, short_number(cost.flops_per_second / per_byte, "B/s"));
  };
  speed("inside a slot", cost.per_byte);
  speed("between slots", cost.per_network_byte);
  return out;
}

std::string percent(double share) {
  return share < 0.0005 && share > 0 ? fmt::format("{:.3f} %", 100 * share)
                                     : fmt::format("{:.1f} %", 100 * share);
}

std::string short_time(double seconds) {
  if (seconds >= 86400) return fmt::format("{:.1f} days", seconds / 86400);
  if (seconds >= 5400) return fmt::format("{:.1f} h", seconds / 3600);
  if (seconds >= 90) return fmt::format("{:.1f} min", seconds / 60);
  if (seconds >= 1) return fmt::format("{:.1f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.0f} ms", seconds * 1e3);
  return fmt::format("{:.0f} us", seconds * 1e6);
}

std::string exact_number(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool is_group = i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-';
    if (is_group) out += ',';
    out += digits[i];
  }
  return out;
}

std::string parameter_words(const Geometry& geometry) {
  const int64_t beside = geometry.part ? geometry.part->adapters : 0;
  return text(exact_number(trained_parameters(geometry)), " of ",
              exact_number(parameter_count(geometry) + beside), " parameters train");
}

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

PlanReport report_of(const Plan& plan, int64_t simulated, double price, bool beyond) {
  PlanReport report{plan, {}, price};
  for (size_t i = 0; i < plan.segments.size(); ++i) {
    const int64_t own = plan.segments[i].steps * plan.segments[i].accumulate;
    report.simulations.push_back(
        simulate(plan, static_cast<int>(i), beyond ? simulated : std::min(simulated, own)));
  }
  return report;
}

std::string report_text(const PlanReport& report) {
  const Plan& plan = report.plan;
  const SegmentPlan& first = plan.segments.front();
  std::string out =
      fmt::format("run {}: seed {}, {} slots of {}, {} micro-steps per step, dwell {}, beat {}\n",
                  plan.run_name, plan.seed, first.slots, plan.slot, first.accumulate, first.dwell,
                  plan.beat > 0 ? cost_words(plan, plan.beat) : "not set");
  out += fmt::format(
      "model: {} parameters, width {}, {} layers{}; {} of weights, gradients and optimiser per "
      "process\n{}\n{}\n",
      exact_number(parameter_count(plan.geometry)), plan.geometry.width, plan.geometry.layers,
      plan.geometry.part ? "; " + parameter_words(plan.geometry) : "",
      short_number(state_bytes(plan.geometry, plan.optimizer, plan.dealing), "B"),
      cost_model_words(plan.options), traffic_words(plan.traffic));
  for (size_t i = 0; i < plan.segments.size(); ++i) out += segment_text(report, i);
  out += fmt::format("\nrun: {} steps, {}{}\n", plan.total_steps(),
                     short_number(plan.total_flops(), "FLOP"),
                     duration_words(report, report.seconds()));
  for (const SourceCatalogue& source : plan.sources) {
    out += fmt::format("  source {}: {} training samples, {:.2f} epochs\n", source.name,
                       source.samples.size(), plan.epochs(source.name));
  }
  for (const std::string& warning : plan.warnings) out += "  warning: " + warning + "\n";
  out += "  plan " + plan.hash().substr(0, 16) + "\n";
  return out;
}

}  // namespace pendulum
