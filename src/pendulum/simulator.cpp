// Runs the draw rule for some thousand micro-steps and adds up predicted costs.
#include "pendulum/simulator.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

// A bucket's draw under a scheme.
struct Load {
  double time = 0;    // of the slot
  double useful = 0;  // FLOPs of all its samples
  int64_t block = 1;
};

struct Scheme {
  std::string name;
  std::vector<Load> loads;
  bool independent = false;  // slots draw without regard to each other, by weight
};

Load load_of(const Plan& plan, const BucketPlan& bucket, int width, int batch) {
  const double cost = sample_cost(plan.geometry, bucket.shape, width, plan.options.flops_per_byte,
                                  plan.options.number_bytes);
  const int64_t block = int64_t{plan.slot / width} * batch;
  return {cost * batch, bucket.flops * static_cast<double>(block), block};
}

int batch_within(double room, double one) {
  return static_cast<int>(std::clamp(std::floor(room / one), 1.0, 1e6));
}

std::vector<Scheme> schemes_of(const Plan& plan, const SegmentPlan& segment) {
  const int widest = plan.options.widths.back();
  double most_tokens = 0, most_flops = 0, beat = plan.beat;
  for (const BucketPlan& bucket : segment.buckets) {
    most_tokens = std::max(most_tokens, static_cast<double>(bucket.tokens));
    most_flops = std::max(most_flops, bucket.flops);
    if (plan.beat <= 0) beat = std::max(beat, bucket.cost * bucket.batch);
  }
  Scheme pendulum{"pendulum", {}}, iid{"iid, one sample per slot", {}, true},
      equal_tokens{"equal tokens, width 1", {}}, equal_cost{"equal cost, width 1", {}},
      one_width{"equal cost, width " + std::to_string(widest) + " for all", {}};
  for (const BucketPlan& bucket : segment.buckets) {
    pendulum.loads.push_back(load_of(plan, bucket, bucket.width, bucket.batch));
    iid.loads.push_back(load_of(plan, bucket, plan.slot, 1));
    equal_tokens.loads.push_back(
        load_of(plan, bucket, 1, batch_within(most_tokens, static_cast<double>(bucket.tokens))));
    equal_cost.loads.push_back(load_of(plan, bucket, 1, batch_within(most_flops, bucket.flops)));
    const double one = load_of(plan, bucket, widest, 1).time;
    one_width.loads.push_back(load_of(plan, bucket, widest, batch_within(beat, one)));
  }
  return {pendulum, iid, equal_tokens, equal_cost, one_width};
}

// The segment's draw rule with the scheme's blocks in place of the plan's.
Segment rule_of(const Plan& plan, const SegmentPlan& segment, int ordinal, const Scheme& scheme) {
  std::vector<double> weights;
  std::vector<int64_t> block, sizes;
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    weights.push_back(segment.buckets[s].weight);
    block.push_back(scheme.loads[s].block);
    sizes.push_back(segment.buckets[s].tokens);
  }
  return {
      plan.seed, ordinal, segment.slots, segment.dwell, raw_rates(weights, block, sizes, plan.unit),
      block};
}

std::vector<int> independent_sources(const Segment& rule, uint64_t seed, int64_t t) {
  std::vector<int> out;
  for (int j = 0; j < rule.slots(); ++j) {
    const uint128 point = draw(hash_name("iid"), seed, t, j);
    out.push_back(static_cast<int>(
        std::upper_bound(rule.upper().begin(), rule.upper().end(), point) - rule.upper().begin()));
  }
  return out;
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
    for (size_t s = 0; s < drawn_.size(); ++s) {
      worst_ = std::max(worst_, std::abs(static_cast<double>(drawn_[s]) -
                                         static_cast<double>(steps_) * expected_[s]));
    }
  }
  double worst() const { return worst_; }
  const std::vector<int64_t>& drawn() const { return drawn_; }

 private:
  std::vector<int64_t> drawn_;
  std::vector<double> expected_;
  int64_t steps_ = 0;
  double worst_ = 0;
};

SchemeResult run_scheme(const Plan& plan, const SegmentPlan& segment, const Segment& rule,
                        const Scheme& scheme, int64_t micro_steps) {
  double useful = 0, time = 0, samples = 0;
  Swing swing;
  for (int64_t t = 0; t < micro_steps; ++t) {
    double slowest = 0;
    const std::vector<int> sources =
        scheme.independent ? independent_sources(rule, plan.seed, t) : rule.sources(t, swing);
    for (const int s : sources) {
      useful += scheme.loads[s].useful;
      samples += static_cast<double>(scheme.loads[s].block);
      slowest = std::max(slowest, scheme.loads[s].time);
    }
    time += slowest;
  }
  const double steps = static_cast<double>(micro_steps) / segment.accumulate;
  return {scheme.name, useful / (time * plan.slot * segment.slots),
          time / static_cast<double>(micro_steps), samples / steps};
}

// What only concerns the pendulum's own draws.
void watch_pendulum(const Plan& plan, const SegmentPlan& segment, const Segment& rule,
                    const Scheme& scheme, Simulation* out) {
  Drift drift(rule), independent(rule);
  Swing swing;
  std::vector<std::set<int>> opened(segment.slots);
  double imbalance = 0, step_samples = 0, sum = 0, squares = 0;
  int64_t dwells = 0;
  for (int64_t t = 0; t < out->micro_steps; ++t) {
    const std::vector<int> sources = rule.sources(t, swing);
    drift.add(sources);
    independent.add(independent_sources(rule, plan.seed, t));
    double slowest = 0, total = 0;
    for (int j = 0; j < segment.slots; ++j) {
      slowest = std::max(slowest, scheme.loads[sources[j]].time);
      total += scheme.loads[sources[j]].time;
      step_samples += static_cast<double>(scheme.loads[sources[j]].block);
      opened[j].insert(sources[j]);
    }
    imbalance += slowest * segment.slots / total;
    out->worst_imbalance = std::max(out->worst_imbalance, slowest * segment.slots / total);
    if ((t + 1) % segment.accumulate == 0) {
      sum += step_samples;
      squares += step_samples * step_samples;
      step_samples = 0;
    }
    if ((t + 1) % segment.dwell == 0 || t + 1 == out->micro_steps) {
      ++dwells;
      for (std::set<int>& slot : opened) {
        out->opened_mean += static_cast<double>(slot.size());
        out->opened_most = std::max(out->opened_most, static_cast<int>(slot.size()));
        slot.clear();
      }
    }
  }
  const double steps = static_cast<double>(out->micro_steps) / segment.accumulate;
  out->mean_imbalance = imbalance / static_cast<double>(out->micro_steps);
  out->sample_variation = std::sqrt(std::max(0.0, squares * steps / (sum * sum) - 1));
  out->opened_mean /= static_cast<double>(dwells * segment.slots);
  out->drift = drift.worst();
  out->iid_drift = independent.worst();
  for (size_t s = 0; s < segment.buckets.size(); ++s) {
    out->expected_shares.push_back(segment.buckets[s].samples / segment.expected_samples);
    out->simulated_shares.push_back(
        static_cast<double>(drift.drawn()[s] * segment.buckets[s].block) / sum);
  }
}

}  // namespace

Simulation simulate(const Plan& plan, int ordinal, int64_t micro_steps) {
  check(ordinal >= 0 && ordinal < static_cast<int>(plan.segments.size()),
        "a segment of the plan: ", ordinal);
  const SegmentPlan& segment = plan.segments[ordinal];
  Simulation out;
  const int64_t steps =
      std::max<int64_t>(1, (micro_steps + segment.accumulate - 1) / segment.accumulate);
  out.micro_steps = steps * segment.accumulate;
  for (const Scheme& scheme : schemes_of(plan, segment)) {
    const Segment rule = rule_of(plan, segment, ordinal, scheme);
    out.schemes.push_back(run_scheme(plan, segment, rule, scheme, out.micro_steps));
    if (out.schemes.size() == 1) watch_pendulum(plan, segment, rule, scheme, &out);
  }
  return out;
}

}  // namespace pendulum
