// Loads of every layout, by the cost model alone.
#include "pendulum/layouts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <queue>

#include "core/error.h"
#include "pendulum/draw_size.h"

namespace pendulum {
namespace {

// The same group load, as a whole slot takes it.
SlotLoad slot_load(const Plan& plan, const BucketPlan& bucket, int width, const GroupLoad& load,
                   int64_t samples) {
  const int64_t block = plan.slot / width * samples;
  const Traffic traffic =
      sample_traffic(plan.geometry, bucket.shape, width, plan.options.number_bytes);
  const CostModel& cost = plan.options.cost;
  return {load.cost,
          static_cast<double>(samples) * traffic.bytes() * cost.per_byte +
              load.passes * traffic.calls * cost.per_call +
              load.passes * pass_cost(plan.traffic, cost),
          bucket.flops * static_cast<double>(block), block};
}

double memory_of(const Plan& plan, const Shape& shape, int width, int batch) {
  return plan.memory(shape, batch, width).total();
}

// Adds a bucket's draw of `samples` per group; where not even one fits, as if the memory were
// there.
void add_load(const Plan& plan, const BucketPlan& bucket, int width, int64_t samples,
              Layout* layout) {
  GroupLoad load = load_of(plan, bucket.shape, width, samples);
  if (load.passes == 0) {
    layout->fits = false;
    load = {1, static_cast<int>(samples),
            static_cast<double>(samples) * plan.pass_cost(bucket.shape, 1, width)};
  }
  layout->memory = std::max(layout->memory, memory_of(plan, bucket.shape, width, load.batch));
  layout->loads.push_back(slot_load(plan, bucket, width, load, samples));
}

// The plan's draws.
Layout plans_own(const Plan& plan, const SegmentPlan& segment, std::string name, Drawing drawing) {
  Layout out{std::move(name), drawing, {}, {}, 0, true};
  for (const BucketPlan& bucket : segment.buckets) {
    const GroupLoad load{bucket.batch, bucket.passes, bucket.cost};
    out.loads.push_back(slot_load(plan, bucket, bucket.width, load, load.samples()));
    out.memory = std::max(out.memory, memory_of(plan, bucket.shape, bucket.width, bucket.batch));
  }
  return out;
}

Layout one_sample_each(const Plan& plan, const SegmentPlan& segment) {
  Layout out{"iid, one sample per slot", Drawing::independent, {}, {}, 0, true};
  for (const BucketPlan& bucket : segment.buckets) add_load(plan, bucket, plan.slot, 1, &out);
  return out;
}

Layout equal_tokens(const Plan& plan, const SegmentPlan& segment) {
  Layout out{"equal tokens, width 1", Drawing::swing, {}, {}, 0, true};
  int64_t most = 0;
  for (const BucketPlan& bucket : segment.buckets) most = std::max(most, bucket.tokens);
  for (const BucketPlan& bucket : segment.buckets)
    add_load(plan, bucket, 1, std::max<int64_t>(1, most / bucket.tokens), &out);
  return out;
}

// The costliest sample of one group takes as long as the others' batches.
Layout equal_cost(const Plan& plan, const SegmentPlan& segment, int width, std::string name) {
  Layout out{std::move(name), Drawing::swing, {}, {}, 0, true};
  const auto one = [&](const BucketPlan& bucket) { return plan.pass_cost(bucket.shape, 1, width); };
  double beat = plan.beat;
  for (const BucketPlan& bucket : segment.buckets)
    beat = std::max({beat, one(bucket), plan.beat > 0 ? 0 : bucket.cost});
  for (const BucketPlan& bucket : segment.buckets) {
    const GroupLoad load = load_within(plan, bucket.shape, width, beat);
    const auto free = static_cast<int64_t>(beat / one(bucket));  // where no sample fits
    add_load(plan, bucket, width, std::max<int64_t>(1, load.passes > 0 ? load.samples() : free),
             &out);
  }
  return out;
}

bool holds_all(const Plan& plan, const SegmentPlan& segment, int width) {
  return std::all_of(segment.buckets.begin(), segment.buckets.end(), [&](const BucketPlan& b) {
    return samples_in_memory(plan, b.shape, width) >= 1;
  });
}

// Samples by bucket of some micro-steps of the plan, and how often each occurs among them: what a
// split is chosen by. In large clusters all micro-steps are alike, and one is enough.
std::map<std::vector<int64_t>, int> some_micro_steps(const Plan& plan, int ordinal) {
  const SegmentPlan& segment = plan.segments[ordinal];
  const Segment rule = segment.segment(plan.seed, ordinal);
  const double samples = segment.expected_samples / segment.accumulate;
  constexpr double kMostSamples = 1e6, kMostSteps = 256;
  const auto steps = static_cast<int64_t>(std::clamp(kMostSamples / samples, 1.0, kMostSteps));
  std::map<std::vector<int64_t>, int> out;
  for (int64_t t = 0; t < steps; ++t) {
    std::vector<int64_t> counts = rule.counts(t);
    for (size_t s = 0; s < counts.size(); ++s) counts[s] *= segment.buckets[s].block;
    ++out[std::move(counts)];
  }
  return out;
}

// Every width, and every split of the slots in some with groups of that width and the rest in
// single processes; the best on some micro-steps.
Layout rerouted(const Plan& plan, int ordinal, bool is_mixed) {
  const SegmentPlan& segment = plan.segments[ordinal];
  const auto moments = some_micro_steps(plan, ordinal);
  Layout out{is_mixed ? "re-routing, two widths" : "re-routing, one width",
             Drawing::rerouted,
             {},
             {},
             0,
             true};
  double best = 0;
  for (const int width : plan.options.widths) {
    if (!holds_all(plan, segment, width) || (is_mixed && width == 1)) continue;
    const int64_t per_slot = plan.slot / width;
    constexpr int kSplits = 16;  // tried at most
    const int step = std::max(1, segment.slots / kSplits);
    const int most = is_mixed ? segment.slots - 1 : segment.slots;
    for (int wide = is_mixed ? step : most; wide <= most; wide += step) {
      std::vector<Bags> bags{{width, wide * per_slot}};
      if (is_mixed) bags.push_back({1, int64_t{segment.slots - wide} * plan.slot});
      double slowest = 0;
      for (const auto& [samples, times] : moments)
        slowest += times * reroute(plan, segment, bags, samples).slowest;
      if (best > 0 && slowest >= best) continue;
      best = slowest;
      out.bags = std::move(bags);
    }
  }
  if (out.bags.empty()) {  // nothing fits: the widest
    const int widest = plan.options.widths.back();
    out.bags = {{widest, int64_t{segment.slots} * (plan.slot / widest)}};
    out.fits = false;
  }
  for (const Bags& group : out.bags)
    out.name += fmt::format("{}{} x {}", &group == &out.bags.front() ? ": " : " and ", group.count,
                            group.width);
  for (const BucketPlan& bucket : segment.buckets) {
    out.memory = std::max(out.memory, memory_of(plan, bucket.shape, out.bags[0].width, 1));
    SlotLoad load;
    load.block = bucket.block;
    load.useful = bucket.flops * static_cast<double>(bucket.block);
    out.loads.push_back(load);
  }
  return out;
}

// Of the widths above 1 at which every bucket fits, the one that trains most samples in a time.
Layout best_single_width(const Plan& plan, const SegmentPlan& segment) {
  std::vector<Layout> found;
  double most = 0;
  for (const int width : plan.options.widths) {
    if (width == 1) continue;
    const bool is_last = width == plan.options.widths.back();
    if (!holds_all(plan, segment, width) && !(is_last && found.empty())) continue;
    Layout layout =
        equal_cost(plan, segment, width, fmt::format("equal cost, width {} for all", width));
    // Time of the expected mixture, balance left aside.
    double time = 0;
    for (size_t s = 0; s < layout.loads.size(); ++s)
      time += segment.buckets[s].samples * layout.loads[s].cost /
              static_cast<double>(layout.loads[s].block);
    if (found.empty() || 1 / time > most) {
      most = 1 / time;
      found = {std::move(layout)};
    }
  }
  return found.front();
}

// A group that works off samples; the smallest first in a queue.
struct Ready {
  double at = 0;
  int64_t group = 0;
  bool operator>(const Ready& other) const {
    return at > other.at || (at == other.at && group > other.group);
  }
};
using Queue = std::priority_queue<Ready, std::vector<Ready>, std::greater<>>;

// Bytes that a sample's tokens take from one process to others and back, forward and backward,
// and its text states to where it is worked on. In a large cluster nearly all of them change node.
double routed_bytes(const Geometry& g, int64_t num_tokens, int number_bytes) {
  const double hidden = 4.0 * static_cast<double>(num_tokens) * g.width;
  const double words = static_cast<double>(g.text_length) * g.text_dim;
  return (hidden + words) * number_bytes;
}

}  // namespace

std::vector<Layout> layouts_of(const Plan& plan, int ordinal) {
  const SegmentPlan& segment = plan.segments[ordinal];
  const bool has_widths = plan.options.widths.size() > 1;
  std::vector<Layout> out{
      plans_own(plan, segment, "pendulum", Drawing::swing), one_sample_each(plan, segment),
      plans_own(plan, segment, "iid, the plan's draws", Drawing::independent),
      equal_tokens(plan, segment), equal_cost(plan, segment, 1, "equal cost, width 1")};
  if (has_widths) out.push_back(best_single_width(plan, segment));
  out.push_back(rerouted(plan, ordinal, false));
  if (has_widths && segment.slots > 1) out.push_back(rerouted(plan, ordinal, true));
  out.push_back(plans_own(plan, segment, "one bucket for all slots", Drawing::same));
  return out;
}

Segment rule_of(const Plan& plan, const SegmentPlan& segment, int ordinal, const Layout& layout) {
  if (layout.drawing == Drawing::swing && layout.name == "pendulum")
    return segment.segment(plan.seed, ordinal);
  std::vector<double> weights;
  std::vector<int64_t> block;
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    // Twelve digits: as fine as rates are, and few enough for exact weights.
    weights.push_back(std::round(segment.buckets[s].samples / segment.expected_samples * 1e12));
    block.push_back(layout.loads[s].block);
  }
  const int slots = layout.drawing == Drawing::same ? 1 : segment.slots;
  const int dwell = layout.drawing == Drawing::same ? 1 : segment.dwell;
  return {plan.seed, ordinal, slots, dwell, raw_rates(weights, block, {}, RateUnit::samples),
          block};
}

int64_t micro_steps_per_step(const SegmentPlan& segment, const Layout& layout) {
  double draws = 0;  // per sample
  for (size_t s = 0; s < layout.loads.size(); ++s)
    draws += segment.buckets[s].samples / segment.expected_samples /
             static_cast<double>(layout.loads[s].block);
  return std::max<int64_t>(1, std::llround(segment.expected_samples * draws / segment.slots));
}

Rerouted reroute(const Plan& plan, const SegmentPlan& segment, const std::vector<Bags>& bags,
                 const std::vector<int64_t>& samples) {
  const CostModel& model = plan.options.cost;
  const int bytes = plan.options.number_bytes;
  std::vector<Queue> ready(bags.size());
  int64_t processes = 0;
  double exchange = 0, worked = 0, moved = 0, slowest = 0;
  for (size_t k = 0; k < bags.size(); ++k) {
    const auto members = static_cast<double>(bags[k].count * bags[k].width);
    processes += bags[k].count * bags[k].width;
    // Samples of all shapes go in one pass, so calls are made, and weights gathered, once.
    const double calls =
        model.per_call *
            sample_traffic(plan.geometry, segment.buckets[0].shape, bags[k].width, bytes).calls +
        pass_cost(plan.traffic, model);
    exchange += calls * members;
    worked += (model.per_pass + calls) * members;
    for (int64_t i = 0; i < bags[k].count; ++i) ready[k].push({model.per_pass + calls, i});
  }
  for (size_t s = segment.buckets.size(); s-- > 0;) {  // the costliest first
    const BucketPlan& bucket = segment.buckets[s];
    std::vector<double> cost, traffic;
    for (const Bags& group : bags) {
      const bool fits = samples_in_memory(plan, bucket.shape, group.width) >= 1;
      cost.push_back(fits || &group == &bags.front()
                         ? sample_cost(plan.geometry, bucket.shape, group.width, model, bytes)
                         : std::numeric_limits<double>::infinity());
      traffic.push_back(model.per_byte *
                        sample_traffic(plan.geometry, bucket.shape, group.width, bytes).bytes());
    }
    moved += static_cast<double>(samples[s]) * routed_bytes(plan.geometry, bucket.tokens, bytes);
    for (int64_t i = 0; i < samples[s]; ++i) {
      size_t first = 0;
      for (size_t k = 1; k < bags.size(); ++k) {
        if (ready[k].top().at + cost[k] < ready[first].top().at + cost[first]) first = k;
      }
      const Ready group = ready[first].top();
      ready[first].pop();
      ready[first].push({group.at + cost[first], group.group});
      slowest = std::max(slowest, group.at + cost[first]);
      worked += cost[first] * bags[first].width;
      exchange += traffic[first] * bags[first].width;
    }
  }
  const auto all = static_cast<double>(processes);
  const double moving = moved / all * model.per_network_byte;
  return {slowest + moving, worked / all + moving, exchange / all + moving};
}

}  // namespace pendulum
