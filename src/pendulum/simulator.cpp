// Runs the draw rules and adds up predicted costs.
#include "pendulum/simulator.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

using Counts = std::vector<int64_t>;  // draws of a micro-step, by bucket

// What one micro-step costs. Slots whose draws are the same cost the same, so counts decide.
struct Moment {
  double slowest = 0, mean = 0, exchange = 0;  // per process
};

Moment moment_of(const Layout& layout, const Counts& counts) {
  Moment out;
  double slots = 0;
  for (size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] == 0) continue;
    const auto count = static_cast<double>(counts[s]);
    out.slowest = std::max(out.slowest, layout.loads[s].cost);
    out.mean += count * layout.loads[s].cost;
    out.exchange += count * layout.loads[s].exchange;
    slots += count;
  }
  out.mean /= slots;
  out.exchange /= slots;
  return out;
}

// Draws of a layout, micro-step by micro-step.
class Draws {
 public:
  Draws(const Plan& plan, const SegmentPlan& segment, int ordinal, const Layout& layout)
      : plan_(plan),
        segment_(segment),
        layout_(layout),
        rule_(rule_of(plan, segment, ordinal, layout)) {}

  const Counts& at(int64_t t) {
    if (layout_.drawing != Drawing::independent) {
      counts_ = rule_.counts(t);
      if (layout_.drawing == Drawing::same) {
        for (int64_t& count : counts_) count *= segment_.slots;
      }
      return counts_;
    }
    independent_sources(rule_, plan_.seed, t, &sources_);
    counts_.assign(layout_.loads.size(), 0);
    for (const int s : sources_) ++counts_[s];
    return counts_;
  }

  // The rule's draws repeat a few counts for ever, so each is looked at once; those of chance do
  // not, and are cheap.
  Moment moment() {
    if (layout_.drawing == Drawing::independent) return moment_of(layout_, counts_);
    const auto [found, is_new] = seen_.try_emplace(counts_);
    if (is_new) {
      if (layout_.drawing == Drawing::rerouted) {
        Counts samples = counts_;
        for (size_t s = 0; s < samples.size(); ++s) samples[s] *= layout_.loads[s].block;
        const Rerouted r = reroute(plan_, segment_, layout_.bags, samples);
        found->second = {r.slowest, r.mean, r.exchange};
      } else {
        found->second = moment_of(layout_, counts_);
      }
    }
    return found->second;
  }

 private:
  const Plan& plan_;
  const SegmentPlan& segment_;
  const Layout& layout_;
  Segment rule_;
  Counts counts_;
  std::vector<int> sources_;
  std::map<Counts, Moment> seen_;
};

LayoutResult run_layout(const Plan& plan, const SegmentPlan& segment, int ordinal,
                        const Layout& layout, int64_t micro_steps) {
  Draws draws(plan, segment, ordinal, layout);
  const int64_t accumulate = micro_steps_per_step(segment, layout);
  double useful = 0, slowest = 0, mean = 0, exchange = 0, samples = 0;
  int64_t steps = 0, lacking = 0;
  std::vector<bool> has(layout.loads.size());
  for (int64_t t = 0; t < micro_steps; ++t) {
    const Counts& counts = draws.at(t);
    for (size_t s = 0; s < counts.size(); ++s) {
      const auto count = static_cast<double>(counts[s]);
      useful += count * layout.loads[s].useful;
      samples += count * static_cast<double>(layout.loads[s].block);
      has[s] = has[s] || counts[s] > 0;
    }
    const Moment moment = draws.moment();
    slowest += moment.slowest;
    mean += moment.mean;
    exchange += moment.exchange;
    if ((t + 1) % accumulate != 0) continue;
    ++steps;
    lacking += std::any_of(has.begin(), has.end(), [](bool b) { return !b; });
    has.assign(has.size(), false);
  }
  const int64_t processes = int64_t{plan.slot} * segment.slots;
  const double updates =
      samples / segment.expected_samples * step_cost(plan.traffic, plan.options.cost);
  const double time = slowest + updates;
  return {layout.name,
          layout.fits,
          layout.memory,
          mean / slowest,
          (exchange + updates) / time,
          slowest / static_cast<double>(micro_steps),
          samples / static_cast<double>(micro_steps),
          time / samples,
          useful / (time * static_cast<double>(processes)),
          static_cast<double>(lacking) / static_cast<double>(std::max<int64_t>(1, steps))};
}

// Drift of the draws of every bucket from their expectation.
class Drift {
 public:
  explicit Drift(const Segment& rule) : drawn_(rule.upper().size()) {
    double lower = 0;
    for (const uint128 upper : rule.upper()) {
      const double point = std::ldexp(static_cast<double>(upper), -64);
      expected_.push_back((point - lower) * rule.slots());
      lower = point;
    }
  }
  void add(const std::vector<int>& sources) {
    ++steps_;
    for (const int s : sources) ++drawn_[s];
    now_ = 0;
    for (size_t s = 0; s < drawn_.size(); ++s) {
      now_ = std::max(now_, std::abs(static_cast<double>(drawn_[s]) -
                                     static_cast<double>(steps_) * expected_[s]));
    }
    worst_ = std::max(worst_, now_);
  }
  double now() const { return now_; }
  double worst() const { return worst_; }
  const std::vector<int64_t>& drawn() const { return drawn_; }

 private:
  std::vector<int64_t> drawn_;
  std::vector<double> expected_;
  int64_t steps_ = 0;
  double worst_ = 0, now_ = 0;
};

// Different buckets that every slot opens in a dwell.
class Opened {
 public:
  Opened(int slots, size_t buckets)
      : buckets_(buckets), last_dwell_(slots * buckets, -1), open_(slots) {}
  void add(const std::vector<int>& sources, int64_t dwell) {
    if (dwell != dwell_) end_dwell();
    dwell_ = dwell;
    for (size_t j = 0; j < sources.size(); ++j) {
      int64_t& last = last_dwell_[j * buckets_ + sources[j]];
      open_[j] += last != dwell;
      last = dwell;
    }
  }
  void end_dwell() {
    if (dwell_ < 0) return;
    for (int& slot : open_) {
      sum_ += slot;
      most_ = std::max(most_, slot);
      slot = 0;
    }
    ++dwells_;
  }
  double mean() const {
    return static_cast<double>(sum_) /
           static_cast<double>(dwells_ * static_cast<int64_t>(open_.size()));
  }
  int most() const { return most_; }

 private:
  size_t buckets_;
  std::vector<int64_t> last_dwell_;  // by slot and bucket
  std::vector<int> open_;            // by slot
  int64_t dwell_ = -1, dwells_ = 0, sum_ = 0;
  int most_ = 0;
};

// The slots of the micro-step whose balance is the median of the first 64.
std::vector<Simulation::SlotMoment> typical_slots(const Plan& plan, const SegmentPlan& segment,
                                                  int ordinal, const Layout& layout) {
  const Segment rule = rule_of(plan, segment, ordinal, layout);
  std::vector<std::pair<double, std::vector<int>>> moments;  // balance, buckets by slot
  for (int64_t t = 0; t < 64; ++t) {
    std::vector<int> sources = rule.sources(t);
    if (layout.drawing == Drawing::independent) independent_sources(rule, plan.seed, t, &sources);
    double slowest = 0, sum = 0;
    for (const int s : sources) {
      slowest = std::max(slowest, layout.loads[s].cost);
      sum += layout.loads[s].cost;
    }
    moments.emplace_back(sum / slowest, std::move(sources));
  }
  const auto middle = moments.begin() + 32;
  std::nth_element(moments.begin(), middle, moments.end());
  std::vector<Simulation::SlotMoment> out;
  for (const int s : middle->second) out.push_back({s, layout.loads[s].cost});
  return out;
}

// What only concerns the pendulum's own draws, slot by slot.
void watch_pendulum(const Plan& plan, const SegmentPlan& segment, int ordinal, const Layout& layout,
                    Simulation* out) {
  const Segment rule = segment.segment(plan.seed, ordinal);
  Drift drift(rule), independent(rule);
  Opened opened(segment.slots, segment.buckets.size());
  Swing swing;
  std::vector<int> sources;
  const int64_t every = std::max<int64_t>(1, out->micro_steps / 300);
  double imbalance = 0, step_samples = 0, sum = 0, squares = 0;
  for (int64_t t = 0; t < out->micro_steps; ++t) {
    rule.sources(t, swing, &sources);
    drift.add(sources);
    opened.add(sources, t / segment.dwell);
    double slowest = 0, total = 0;
    for (const int s : sources) {
      slowest = std::max(slowest, layout.loads[s].cost);
      total += layout.loads[s].cost;
      step_samples += static_cast<double>(layout.loads[s].block);
    }
    imbalance += slowest * segment.slots / total;
    out->worst_imbalance = std::max(out->worst_imbalance, slowest * segment.slots / total);
    independent_sources(rule, plan.seed, t, &sources);
    independent.add(sources);
    if (t % every == 0) out->drift_curve.push_back({t, drift.now(), independent.now()});
    if ((t + 1) % segment.accumulate == 0) {
      sum += step_samples;
      squares += step_samples * step_samples;
      step_samples = 0;
    }
  }
  opened.end_dwell();
  const double steps = static_cast<double>(out->micro_steps) / segment.accumulate;
  out->mean_imbalance = imbalance / static_cast<double>(out->micro_steps);
  out->sample_variation = std::sqrt(std::max(0.0, squares * steps / (sum * sum) - 1));
  out->opened_mean = opened.mean();
  out->opened_most = opened.most();
  out->drift = drift.worst();
  out->iid_drift = independent.worst();
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    out->expected_shares.push_back(segment.buckets[s].samples / segment.expected_samples);
    out->simulated_shares.push_back(
        static_cast<double>(drift.drawn()[s] * segment.buckets[s].block) / sum);
  }
}

}  // namespace

void independent_sources(const Segment& rule, uint64_t seed, int64_t t, std::vector<int>* out) {
  // Only the last threshold needs 65 bits, and nothing lies beyond it.
  const auto& upper = rule.upper();
  const auto last = static_cast<int>(upper.size()) - 1;
  const uint64_t key = draw(hash_name("iid"), seed, t);
  out->resize(rule.slots());
  for (int j = 0; j < rule.slots(); ++j) {
    const uint64_t point = fold(key, j);
    int s = 0;
    while (s < last && point >= static_cast<uint64_t>(upper[s])) ++s;
    (*out)[j] = s;
  }
}

Simulation simulate(const Plan& plan, int ordinal, int64_t micro_steps) {
  check(ordinal >= 0 && ordinal < static_cast<int>(plan.segments.size()),
        "a segment of the plan: ", ordinal);
  const SegmentPlan& segment = plan.segments[ordinal];
  Simulation out;
  const int64_t steps =
      std::max<int64_t>(1, (micro_steps + segment.accumulate - 1) / segment.accumulate);
  out.micro_steps = steps * segment.accumulate;
  const std::vector<Layout> layouts = layouts_of(plan, ordinal);
  for (const Layout& layout : layouts)
    out.layouts.push_back(run_layout(plan, segment, ordinal, layout, out.micro_steps));
  watch_pendulum(plan, segment, ordinal, layouts[0], &out);
  out.typical = typical_slots(plan, segment, ordinal, layouts[0]);
  out.typical_iid = typical_slots(plan, segment, ordinal, layouts[1]);
  return out;
}

}  // namespace pendulum
