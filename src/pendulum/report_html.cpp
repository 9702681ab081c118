// The plan as one page: figures, tables and plots, no scripts and nothing from elsewhere.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "pendulum/report.h"
#include "pendulum/svg.h"

namespace pendulum {
namespace {

constexpr const char* kStyle = R"(
:root { --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --paper: #ffffff; --page: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 40px 0 12px; } h3 { font-size: 15px; margin: 0 0 8px; }
p { margin: 4px 0; } .soft { color: var(--soft); fill: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
.fact { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.fact b { display: block; font-size: 19px; font-weight: 600; } .fact span { color: var(--soft); font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; align-items: start; }
@media (max-width: 900px) { .plots { grid-template-columns: 1fr; } }
figure { margin: 0; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 16px; min-width: 0; }
figure.wide { grid-column: 1 / -1; } figcaption { color: var(--soft); font-size: 13px; margin-top: 8px; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: var(--ink); } svg text.soft { fill: var(--soft); }
svg line { stroke: var(--line); } svg line.limit { stroke: #d1495b; stroke-dasharray: 4 3; stroke-width: 1.4; }
.scroll { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; margin-top: 16px; }
table { border-collapse: collapse; width: 100%; font-size: 12px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 6px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } tr:last-child td { border-bottom: none; }
th:first-child, td:first-child { text-align: left; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 10px; font-size: 13px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
.warning { background: #fff6e5; border: 1px solid #f5d9a0; border-radius: 8px; padding: 8px 14px; margin-top: 12px; font-size: 14px; }
)";

constexpr const char* kOwn = "#219ebc";
constexpr const char* kOther = "#b8c0cc";
constexpr const char* kAlarm = "#d1495b";

// Buckets stand in the order of their cost: from light to dark and warm.
std::string colour_of(size_t bucket) {
  static constexpr std::array<const char*, 10> kColours{"#a9d6e5", "#61a5c2", "#2c7da0", "#01497c",
                                                        "#ffcb69", "#f79256", "#d1495b", "#8f2d56",
                                                        "#5c2751", "#2d1e2f"};
  return kColours[bucket % kColours.size()];
}

// Spread over the palette where there are few.
std::string colour_of(size_t bucket, size_t count) {
  if (count < 2 || count > 10) return colour_of(bucket);
  return colour_of(bucket * 8 / (count - 1) > 9 ? 9 : bucket * 8 / (count - 1));
}

std::string html_table(const std::vector<ReportRow>& rows) {
  std::string out = "<div class=\"scroll\"><table>";
  for (size_t r = 0; r < rows.size(); ++r) {
    out += "<tr>";
    for (const std::string& cell : rows[r])
      out += fmt::format("<{0}>{1}</{0}>", r == 0 ? "th" : "td", escaped(cell));
    out += "</tr>";
  }
  return out + "</table></div>";
}

std::string figure(const std::string& title, const std::string& body, const std::string& caption,
                   bool is_wide = false) {
  return fmt::format("<figure{}><h3>{}</h3>{}<figcaption>{}</figcaption></figure>",
                     is_wide ? " class=\"wide\"" : "", escaped(title), body, escaped(caption));
}

std::string fact(const std::string& value, const std::string& words) {
  return fmt::format("<div class=\"fact\"><b>{}</b><span>{}</span></div>", escaped(value),
                     escaped(words));
}

std::string key_of(const SegmentPlan& segment) {
  std::string out = "<div class=\"key\">";
  for (size_t s = 0; s < segment.buckets.size(); ++s)
    out += fmt::format("<span><i style=\"background:{}\"></i>{}</span>",
                       colour_of(s, segment.buckets.size()), escaped(segment.buckets[s].name));
  return out + "</div>";
}

// Room for the buckets' names.
double label_width(const SegmentPlan& segment) {
  size_t longest = 8;
  for (const BucketPlan& bucket : segment.buckets) longest = std::max(longest, bucket.name.size());
  return 14 + 6.7 * static_cast<double>(std::min<size_t>(longest, 36));
}

// Slots down, micro-steps across, a cell for each draw.
std::string swing_plot(const PlanReport& report, size_t ordinal) {
  const Plan& plan = report.plan;
  const SegmentPlan& segment = plan.segments[ordinal];
  const Segment rule = segment.segment(plan.seed, static_cast<int>(ordinal));
  constexpr int kSteps = 96, kMostSlots = 24;
  const int slots = std::min(segment.slots, kMostSlots);
  constexpr double kLeft = 52, kCell = 10.6;
  const double height = slots > 12 ? 9 : 14;
  Svg svg(1080, height * slots + 26);
  Swing swing;
  std::vector<int> sources;
  for (int t = 0; t < kSteps; ++t) {
    rule.sources(t, swing, &sources);
    for (int j = 0; j < slots; ++j) {
      const int s = sources[j];
      svg.box(kLeft + t * kCell, j * height, kCell - 0.8, height - 0.8,
              colour_of(s, segment.buckets.size()),
              fmt::format("micro-step {}, slot {}: {}", t, j, segment.buckets[s].name));
    }
    if (t % 8 == 0)
      svg.words(kLeft + t * kCell, height * slots + 16, std::to_string(t), Svg::Anchor::start,
                "soft");
  }
  for (int j = 0; j<slots; j += slots> 12 ? 4 : 1)
    svg.words(kLeft - 8, j * height + height / 2 + 4, fmt::format("slot {}", j), Svg::Anchor::end,
              "soft");
  return key_of(segment) + svg.page();
}

std::string slots_plot(const PlanReport& report, const SegmentPlan& segment,
                       const std::vector<Simulation::SlotMoment>& moment) {
  std::vector<Bar> bars;
  double slowest = 0;
  for (const auto& slot : moment) slowest = std::max(slowest, slot.cost);
  for (size_t j = 0; j < std::min<size_t>(moment.size(), 16); ++j) {
    const auto& [bucket, cost] = moment[j];
    bars.push_back(
        {fmt::format("slot {}", j),
         {{cost, colour_of(bucket, segment.buckets.size()), segment.buckets[bucket].name}},
         cost_words(report.plan, cost)});
  }
  return bar_chart(bars, 60, {slowest, "the slowest: all wait for it"});
}

// Shares of samples on a logarithmic scale: rings as expected, dots as simulated.
std::string mixture_plot(const SegmentPlan& segment, const Simulation& simulation) {
  constexpr double kWidth = 520, kRow = 24, kRight = 70;
  const double left = label_width(segment);
  double least = 1;
  for (const double share : simulation.expected_shares) least = std::min(least, share);
  const double low = std::min(-1.0, std::floor(std::log10(least)));
  Svg svg(kWidth, kRow * static_cast<double>(segment.buckets.size()) + 22);
  const auto place = [&](double share) {
    const double exponent = share > 0 ? std::log10(share) : low;
    return left + (kWidth - left - kRight) * (1 - std::max(exponent, low) / low);
  };
  const double bottom = kRow * static_cast<double>(segment.buckets.size());
  for (double e = low; e <= 0; ++e) {
    svg.line(place(std::pow(10, e)), 0, place(std::pow(10, e)), bottom, "");
    svg.words(place(std::pow(10, e)), bottom + 14, fmt::format("{:g} %", 100 * std::pow(10, e)),
              Svg::Anchor::middle, "soft");
  }
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    const double y = kRow * (static_cast<double>(s) + 0.5);
    const double expected = simulation.expected_shares[s], found = simulation.simulated_shares[s];
    const std::string colour = colour_of(s, segment.buckets.size());
    svg.words(left - 10, y + 4, segment.buckets[s].name, Svg::Anchor::end);
    svg.dot(place(expected), y, 7, "none", colour, "expected " + percent(expected));
    svg.dot(place(found), y, 3.4, colour, colour, "simulated " + percent(found));
    svg.words(kWidth - 2, y + 4, percent(found), Svg::Anchor::end, "soft");
  }
  return svg.page();
}

std::string drift_plot(const Simulation& simulation) {
  constexpr double kLeft = 48, kWidth = 520, kHeight = 170, kBottom = 24;
  double most = 1;
  for (const auto& point : simulation.drift_curve)
    most = std::max({most, point.pendulum, point.iid});
  const double last = static_cast<double>(std::max<int64_t>(1, simulation.micro_steps));
  Svg svg(kWidth, kHeight + kBottom);
  std::vector<std::pair<double, double>> own, other;
  for (const auto& point : simulation.drift_curve) {
    const double x = kLeft + (kWidth - kLeft - 8) * static_cast<double>(point.micro_step) / last;
    own.emplace_back(x, kHeight - point.pendulum / most * (kHeight - 12));
    other.emplace_back(x, kHeight - point.iid / most * (kHeight - 12));
  }
  for (const double share : {0.0, 0.5, 1.0}) {
    const double y = kHeight - share * (kHeight - 12);
    svg.line(kLeft, y, kWidth - 8, y, "");
    svg.words(kLeft - 8, y + 4, short_number(std::round(most * share), ""), Svg::Anchor::end,
              "soft");
  }
  svg.curve(other, kOther);
  svg.curve(own, kOwn);
  svg.words(kLeft, kHeight + 18, "0", Svg::Anchor::start, "soft");
  svg.words(kWidth - 8, kHeight + 18, fmt::format("{} micro-steps", simulation.micro_steps),
            Svg::Anchor::end, "soft");
  return fmt::format(
             "<div class=\"key\"><span><i style=\"background:{}\"></i>pendulum</span><span><i "
             "style=\"background:{}\"></i>independent draws</span></div>",
             kOwn, kOther) +
         svg.page();
}

std::string layouts_plot(const PlanReport& report, const Simulation& simulation) {
  const double rate = report.plan.options.cost.flops_per_second;
  std::vector<Bar> bars;
  for (const LayoutResult& layout : simulation.layouts) {
    const double speed = (rate > 0 ? rate : 1e18) / layout.cost_per_sample;
    const bool is_own = &layout == &simulation.layouts.front();
    bars.push_back({layout.name,
                    {{speed, is_own ? kOwn : kOther, percent(layout.balance) + " balanced"}},
                    fmt::format("{:.4g}{}{}", speed, rate > 0 ? " /s" : "",
                                layout.fits ? "" : ", does not fit"),
                    !layout.fits});
  }
  return bar_chart(bars, 290, {}, 1080);
}

std::string memory_plot(const PlanReport& report, const SegmentPlan& segment) {
  const Plan& plan = report.plan;
  std::vector<Bar> bars;
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    const BucketPlan& bucket = segment.buckets[s];
    const ProcessMemory memory = memory_of(plan, bucket);
    Bar bar{bucket.name, {}, short_number(memory.total(), "B")};
    const auto add = [&](double bytes, const std::string& colour, const char* what) {
      if (bytes > 0) bar.parts.push_back({bytes, colour, what + short_number(bytes, "B")});
    };
    add(memory.weights, kOther, "weights ");
    add(memory.gradients, "#98a2b3", "gradients ");
    add(memory.moments, "#7d8899", "moments ");
    add(memory.average, "#667085", "average ");
    add(memory.activations, colour_of(s, segment.buckets.size()), "activations ");
    bars.push_back(bar);
  }
  const double limit = plan.options.memory_bytes;
  return bar_chart(bars, label_width(segment),
                   {limit, short_number(limit, "B") + " to train with"});
}

std::string traffic_plot(const PlanReport& report, const SegmentPlan& segment) {
  std::vector<Bar> bars;
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    const double sent = draw_traffic(report.plan, segment.buckets[s]);
    const double shared = attention_bytes(report.plan, segment.buckets[s]);
    bars.push_back({segment.buckets[s].name,
                    {{shared, colour_of(s, segment.buckets.size()), ""},
                     {sent - shared, kOther, "weights and gradients"}},
                    short_number(sent, "B")});
  }
  return bar_chart(bars, label_width(segment));
}

// Where the FLOPs go: by bucket, and of the stages as given and as asked.
std::string shares_plot(const PlanReport& report) {
  const Plan& plan = report.plan;
  std::vector<Bar> bars;
  for (const SegmentPlan& segment : plan.segments) {
    Bar bar{segment.stage_name, {}, ""};
    const double share =
        segment.expected_flops * static_cast<double>(segment.steps) / plan.total_flops();
    for (size_t s = 0; s < segment.buckets.size(); ++s) {
      bar.parts.push_back({share * segment.buckets[s].share, colour_of(s, segment.buckets.size()),
                           segment.buckets[s].name + " " + percent(segment.buckets[s].share)});
    }
    bar.words = percent(share);
    bars.push_back(bar);
    if (segment.compute > 0)
      bars.push_back({"asked", {{segment.compute, kOther, ""}}, percent(segment.compute)});
  }
  return bar_chart(bars, 150);
}

std::string stage_section(const PlanReport& report, size_t i) {
  const Plan& plan = report.plan;
  const SegmentPlan& segment = plan.segments[i];
  const Simulation& simulation = report.simulations[i];
  std::string out = fmt::format(
      "<h2>Stage {}: {}</h2><p class=\"soft\">{} steps of {:.1f} samples, "
      "{:.0f} tokens, {}{}; {}</p>",
      i + 1, escaped(segment.stage_name), segment.steps, segment.expected_samples,
      segment.expected_tokens, short_number(segment.expected_flops, "FLOP"),
      report.seconds(i) > 0 ? ", " + short_time(report.seconds(i)) : "",
      parameter_words(plan.geometry));
  out += "<div class=\"plots\">";
  out += figure("The swing", swing_plot(report, i),
                "Which bucket each slot draws, micro-step by micro-step. Every column holds the "
                "mixture; which slot has which bucket changes with every dwell.",
                true);
  out +=
      figure("A micro-step of the pendulum", slots_plot(report, segment, simulation.typical),
             "Different buckets, nearly the same time. The micro-step of median balance among the "
             "first 64.");
  out += figure(
      "A micro-step of independent slots", slots_plot(report, segment, simulation.typical_iid),
      "One sample per slot, drawn by chance: all wait for the longest. The median likewise.");
  out += figure("Samples per second, layout by layout", layouts_plot(report, simulation),
                "Whole cluster, communication counted; faint where the memory of a device does not "
                "suffice.",
                true);
  out += figure(
      "Memory per process", memory_plot(report, segment),
      "Grey, from light to dark: weights, gradients, moments, average. Coloured: activations "
      "of one pass.");
  out += figure("Mixture", mixture_plot(segment, simulation),
                "Share of samples, logarithmic: rings as expected, dots as simulated.");
  out += figure("Drift", drift_plot(simulation),
                fmt::format("Largest difference between a bucket's draws so far and their "
                            "expectation: at most {:.1f} draws, {:.0f} with independent draws.",
                            simulation.drift, simulation.iid_drift));
  out +=
      figure("Traffic", traffic_plot(report, segment),
             "Bytes that a process sends in a draw: coloured for the attention of samples that "
             "several share, grey for weights and gradients that are dealt (mesh.zero 2 and 3).");
  out += "</div>" + html_table(bucket_rows(plan, segment, simulation)) +
         html_table(memory_rows(plan, segment)) + html_table(layout_rows(plan, simulation));
  for (const std::string& warning : segment.warnings)
    out += "<div class=\"warning\">" + escaped(warning) + "</div>";
  return out;
}

std::string source_rows(const Plan& plan) {
  std::vector<ReportRow> rows{{"source", "training samples"}};
  for (const SegmentPlan& segment : plan.segments)
    rows[0].push_back("epochs in " + segment.stage_name);
  rows[0].push_back("epochs in all");
  for (const SourceCatalogue& source : plan.sources) {
    ReportRow row{source.name, std::to_string(source.samples.size())};
    for (size_t i = 0; i < plan.segments.size(); ++i)
      row.push_back(fmt::format("{:.2f}", plan.epochs(source.name, static_cast<int>(i))));
    row.push_back(fmt::format("{:.2f}", plan.epochs(source.name)));
    rows.push_back(row);
  }
  return html_table(rows);
}

}  // namespace

std::string report_html(const PlanReport& report) {
  const Plan& plan = report.plan;
  const SegmentPlan& first = plan.segments.front();
  std::string out = fmt::format(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\"><title>Plan of {0}</title><style>{1}</style>"
      "</head><body><main><h1>Plan of {0}</h1><p class=\"soft\">{2} slots of {3} processes, {4} "
      "micro-steps per step, dwell {5}, beat {6}; plan {7}; {8}; {9}</p><div class=\"facts\">",
      escaped(plan.run_name), kStyle, first.slots, plan.slot, first.accumulate, first.dwell,
      plan.beat > 0 ? cost_words(plan, plan.beat) : "not set", plan.hash().substr(0, 16),
      escaped(cost_model_words(plan.options)), escaped(traffic_words(plan.traffic)));
  out += fact(short_number(static_cast<double>(parameter_count(plan.geometry)), ""), "parameters");
  if (plan.geometry.part) {
    const auto trained = static_cast<double>(trained_parameters(plan.geometry));
    out += fact(short_number(trained, ""), "of them and of adapters train");
  }
  out += fact(std::to_string(report.processes()), "processes");
  out += fact(std::to_string(plan.total_steps()), "optimiser steps");
  out += fact(short_number(plan.total_flops(), "FLOP"), "training work");
  if (report.seconds() > 0) out += fact(short_time(report.seconds()), "predicted time");
  if (report.seconds() > 0 && report.price > 0)
    out += fact(fmt::format("${:.0f}", report.dollars(report.seconds())),
                fmt::format("at ${:g} per process and hour", report.price));
  out +=
      "</div><div class=\"plots\">" +
      figure("Where the FLOPs go", shares_plot(report),
             "Share of the run by stage, in the colours of the stage's buckets from the lightest "
             "to the costliest; grey: as asked.",
             plan.segments.size() > 6) +
      figure("Sources", source_rows(plan), "Expected passes over each source.") + "</div>";
  for (size_t i = 0; i < plan.segments.size(); ++i) out += stage_section(report, i);
  for (const std::string& warning : plan.warnings)
    out += "<div class=\"warning\">" + escaped(warning) + "</div>";
  return out + "</main></body></html>\n";
}

}  // namespace pendulum
