// From the YAML and the sizes of the sources to segments: buckets, widths, batches, rates, steps.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "pendulum/bucket_register.h"
#include "pendulum/buckets.h"
#include "pendulum/draw_size.h"
#include "pendulum/plan.h"
#include "pendulum/plan_changes.h"
#include "pendulum/walker.h"

namespace pendulum {
namespace {

RateUnit known_unit(const std::string& words) {
  if (words == "samples") return RateUnit::samples;
  if (words == "tokens") return RateUnit::tokens;
  if (words == "draws") return RateUnit::draws;
  throw ConfigError(text("weights: '", words, "' is not known; samples, tokens or draws"));
}

double beat_in_flops(const Beat& beat, const PlanOptions& options) {
  if (beat.flops > 0 || beat.seconds <= 0) return beat.flops;
  if (options.cost.flops_per_second <= 0) {
    throw ConfigError(
        "mesh.beat is given in seconds, but how many FLOPs a second a device does is not known; "
        "give mesh.device_flops or mesh.calibration, the beat in FLOPs, or a batch per stage");
  }
  return beat.seconds * options.cost.flops_per_second;
}

std::vector<std::string> parts_of(const SourceCatalogue& source) {
  return source.parts.empty() ? std::vector{source.digest} : source.parts;
}

class Planner {
 public:
  Planner(const Config& config, const std::vector<SourceCatalogue>& catalogues,
          const Geometry& geometry, const PlanOptions& options, const Plan* saved = nullptr,
          int64_t finished_steps = 0)
      : config_(config),
        catalogues_(catalogues),
        geometry_(geometry),
        options_(options),
        saved_(saved),
        finished_steps_(finished_steps),
        register_(saved, saved ? cursors_at(*saved, position_after(*saved, finished_steps))
                               : std::map<std::string, int64_t>()) {}

  Plan plan();

 private:
  void check_mesh() const;
  void check_parts() const;
  void go_on();
  void restore(SegmentPlan segment, int64_t steps);
  void note_change();
  SegmentPlan plan_stage(int stage);
  std::vector<BucketPlan> buckets_of(int stage, const std::string& source, double weight,
                                     SegmentPlan* segment);
  void set_rates(const StageConfig& stage, SegmentPlan* segment) const;
  void set_expectations(SegmentPlan* segment) const;
  int64_t steps_of(const StageConfig& stage, const SegmentPlan& segment) const;
  void warn_of(const StageConfig& stage, SegmentPlan* segment) const;
  void warn_of_epochs();
  const SourceCatalogue& catalogue(const std::string& stage, const std::string& source) const;

  const Config& config_;
  const std::vector<SourceCatalogue>& catalogues_;
  const Geometry& geometry_;
  PlanOptions options_;
  const Plan* saved_;       // of a run that goes on; null: one that begins
  int64_t finished_steps_;  // of it
  Plan plan_;
  BucketRegister register_;
};

void Planner::check_mesh() const {
  const MeshConfig& mesh = config_.mesh;
  const std::pair<const char*, int> keys[] = {{"slot", mesh.slot},
                                              {"slots", mesh.slots},
                                              {"accumulate", mesh.accumulate},
                                              {"dwell", mesh.dwell}};
  for (const auto& [key, value] : keys) {
    if (value < 1)
      throw ConfigError(text("mesh.", key, ": ", value, " is not possible; at least 1"));
  }
  if (config_.stages.empty())
    throw ConfigError("stages: there is none, so nothing would be trained");
}

Plan Planner::plan() {
  check_mesh();
  if (options_.widths.empty()) options_.widths = divisors(config_.mesh.slot);
  std::erase_if(options_.widths, [&](int w) { return w < 1 || config_.mesh.slot % w != 0; });
  std::sort(options_.widths.begin(), options_.widths.end());
  if (options_.widths.empty())
    throw ConfigError(text("mesh.slot: no allowed width divides ", config_.mesh.slot));
  plan_.seed = config_.run.seed;
  plan_.run_name = config_.run.name;
  plan_.slot = config_.mesh.slot;
  plan_.unit = known_unit(config_.weights);
  plan_.geometry = geometry_;
  plan_.options = options_;
  plan_.beat = beat_in_flops(config_.mesh.beat, options_);
  const OptimConfig& optim = config_.optim;
  plan_.optimizer = {optim.ema > 0, optim.ema_memory == "host", optim.kind == "adamw8bit",
                     optim.kind == "muon"};
  if (config_.mesh.zero > 0) plan_.dealing = {config_.mesh.zero, config_.mesh.slot};
  plan_.traffic = dealt_traffic(geometry_, config_.mesh);
  for (const SourceCatalogue& source : catalogues_) {
    check(std::is_sorted(source.samples.begin(), source.samples.end()),
          "sample numbers ascend: ", source.name);
    plan_.sources.push_back({.name = source.name,
                             .digest = source.digest,
                             .samples = source.samples,
                             .parts = source.parts});
  }
  if (saved_) {
    go_on();
  } else {
    for (size_t i = 0; i < config_.stages.size(); ++i)
      plan_.segments.push_back(plan_stage(static_cast<int>(i)));
  }
  for (SegmentPlan& segment : plan_.segments) {
    for (BucketPlan& bucket : segment.buckets) {
      bucket.epochs = bucket.samples * static_cast<double>(segment.steps) /
                      static_cast<double>(bucket.entries.size());
    }
  }
  plan_.buckets = register_.take();
  for (Bucket& bucket : plan_.buckets) bucket.cursor = 0;
  if (saved_) note_change();
  warn_of_epochs();
  return std::move(plan_);
}

// Samples keep their numbers only where parts were added behind the others.
void Planner::check_parts() const {
  for (const SourceCatalogue& before : saved_->sources) {
    for (const SourceCatalogue& now : catalogues_) {
      if (now.name != before.name) continue;
      const std::vector<std::string> old_parts = parts_of(before), parts = parts_of(now);
      if (parts.size() >= old_parts.size() &&
          std::equal(old_parts.begin(), old_parts.end(), parts.begin()))
        continue;
      throw ConfigError(text(
          "sources.", now.name,
          ".data: the data is not what this run has been trained on so far. Leave what was there "
          "as it was and add new packed folders behind it, or give the source another name"));
    }
  }
}

// What was walked stays. The stage under way goes on in a new segment unless its draws are the
// same.
void Planner::go_on() {
  check_parts();
  Position at = position_after(*saved_, finished_steps_);
  if (at.segment == static_cast<int>(saved_->segments.size()) && at.segment > 0)
    at = {at.segment - 1, saved_->segments.back().steps};
  plan_.changes = saved_->changes;
  const std::string under_way = saved_->segments[at.segment].stage_name;
  const auto first = std::find_if(config_.stages.begin(), config_.stages.end(),
                                  [&](const StageConfig& s) { return s.name == under_way; });
  if (first == config_.stages.end()) {
    throw ConfigError(text("stages: the run is in stage ", under_way, ", which is gone"));
  }
  for (int i = 0; i < at.segment; ++i) restore(saved_->segments[i], saved_->segments[i].steps);
  for (auto stage = first; stage != config_.stages.end(); ++stage) {
    SegmentPlan next = plan_stage(static_cast<int>(stage - config_.stages.begin()));
    const bool is_under_way = stage == first;
    double spent = 0;
    if (is_under_way && at.step > 0) {
      const SegmentPlan& current = saved_->segments[at.segment];
      restore(current, at.step);
    }
    for (const SegmentPlan& done : plan_.segments) {
      if (done.stage_name != stage->name) continue;
      next.stage_step += done.steps;
      spent += done.expected_flops * static_cast<double>(done.steps);
    }
    if (next.stage_step > 0) {
      if (stage->steps > 0) {
        next.steps = stage->steps - next.stage_step;
      } else {
        next.steps = static_cast<int64_t>(
            std::round((config_.total_flops * stage->compute - spent) / next.expected_flops));
      }
      if (next.steps <= 0) continue;
    }
    if (is_under_way && at.step > 0 && draws_alike(plan_.segments.back(), next)) {
      // As it was planned: rounding the rest of the stage's work must not change its length.
      const SegmentPlan& before = saved_->segments[at.segment];
      const int64_t rest = before.steps - at.step;
      const bool is_last = saved_->is_last_of_stage(at.segment);
      const bool keeps = stage->steps == 0 && is_last && std::abs(rest - next.steps) <= 1;
      plan_.segments.back().steps += keeps ? rest : next.steps;
      continue;
    }
    plan_.segments.push_back(std::move(next));
  }
}

// A segment of the manifest, with what the manifest leaves out.
void Planner::restore(SegmentPlan segment, int64_t steps) {
  segment.steps = steps;
  for (size_t i = 0; i < config_.stages.size(); ++i) {
    if (config_.stages[i].name == segment.stage_name) segment.stage = static_cast<int>(i);
  }
  for (BucketPlan& bucket : segment.buckets) {
    bucket.flops = training_flops(geometry_, bucket.shape);
    bucket.cost = bucket.passes * plan_.pass_cost(bucket.shape, bucket.batch, bucket.width);
  }
  segment.loss_denominator = 0;
  set_expectations(&segment);
  plan_.segments.push_back(std::move(segment));
}

// Says what is different from the manifest, where something is.
void Planner::note_change() {
  std::vector<std::string> what = changes_between(*saved_, plan_, finished_steps_);
  if (!what.empty()) plan_.changes.push_back({finished_steps_, std::move(what)});
}

SegmentPlan Planner::plan_stage(int number) {
  const StageConfig& stage = config_.stages[number];
  SegmentPlan segment;
  segment.stage = number;
  segment.stage_name = stage.name;
  segment.slots = config_.mesh.slots;
  segment.accumulate = config_.mesh.accumulate;
  segment.dwell = config_.mesh.dwell;
  for (const auto& [source, weight] : stage.sources) {
    if (weight == 0) continue;
    for (BucketPlan& bucket : buckets_of(number, source, weight, &segment)) {
      size_draw(plan_, stage, &bucket);
      segment.buckets.push_back(std::move(bucket));
    }
  }
  if (segment.buckets.empty()) {
    throw ConfigError(text("stages.", stage.name, ".sources: no source with a weight above 0"));
  }
  std::sort(segment.buckets.begin(), segment.buckets.end(),
            [](const BucketPlan& a, const BucketPlan& b) {
              return std::tie(a.flops, a.uid) < std::tie(b.flops, b.uid);
            });
  set_rates(stage, &segment);
  set_expectations(&segment);
  segment.steps = steps_of(stage, segment);
  segment.compute = stage.compute;
  warn_of(stage, &segment);
  return segment;
}

const SourceCatalogue& Planner::catalogue(const std::string& stage,
                                          const std::string& source) const {
  for (const SourceCatalogue& entry : catalogues_) {
    if (entry.name == source) return entry;
  }
  throw ConfigError(
      text("stages.", stage, ".sources.", source, ": there is no source of that name"));
}

// Samples that fill fewer frames than the stage asks, and those of another aspect, form buckets of
// their own.
std::vector<BucketPlan> Planner::buckets_of(int number, const std::string& source, double weight,
                                            SegmentPlan* segment) {
  const StageConfig& stage = config_.stages[number];
  const Shape& largest = stage.shape_of(source);
  const SourceCatalogue& data = catalogue(stage.name, source);
  check(static_cast<size_t>(number) < data.frames.size() &&
            data.frames[number].size() == data.samples.size(),
        "frames for every sample of source ", source, " in stage ", stage.name);
  const StageBuckets rule(stage.seen_by(source), geometry_);
  const bool has_sizes = static_cast<size_t>(number) < data.sizes.size();
  std::map<std::pair<int, int>, std::vector<int64_t>> by_size_and_frames;
  int64_t unusable = 0, usable = 0;
  for (size_t i = 0; i < data.samples.size(); ++i) {
    const int frames = fitting_frames(geometry_, std::min(data.frames[number][i], largest.frames));
    const int size = has_sizes ? data.sizes[number][i] : 0;
    if (frames == 0) {
      ++unusable;
      continue;
    }
    by_size_and_frames[{size, frames}].push_back(data.samples[i]);
    ++usable;
  }
  if (static_cast<size_t>(number) < data.refused.size() && !data.refused[number].empty())
    segment->refused[source] = data.refused[number];
  if (usable == 0) {
    throw ConfigError(text("stages.", stage.name, ".sources.", source,
                           ": the source has no training sample for shape ", largest.name()));
  }
  if (unusable > 0) {
    std::string reasons;
    for (const auto& [reason, count] : segment->refused[source])
      reasons += fmt::format("{} {}: {}", reasons.empty() ? ";" : ",", count, reason);
    segment->warnings.push_back(
        fmt::format("source {}: {} of {} samples cannot be used in this stage{}", source, unusable,
                    data.samples.size(), reasons));
  }
  std::vector<BucketPlan> out;
  for (auto& [key, entries] : by_size_and_frames) {
    const auto& [size, frames] = key;
    BucketPlan bucket;
    bucket.source = source;
    bucket.shape = {frames, rule.sizes()[size].height, rule.sizes()[size].width};
    if (has_sizes) {
      const BucketFit& fit = data.fits[number].at(bucket.shape);
      bucket.crop = fit.crop / static_cast<double>(entries.size());
      bucket.enlarged = fit.enlarged;
    }
    bucket.tokens = tokens(geometry_, bucket.shape);
    if (plan_.unit == RateUnit::tokens) bucket.loss_weight = static_cast<double>(bucket.tokens);
    bucket.flops = training_flops(geometry_, bucket.shape);
    bucket.weight = weight * static_cast<double>(entries.size()) / static_cast<double>(usable);
    bucket.entries = std::move(entries);
    register_.identify(&bucket, stage.name);
    out.push_back(std::move(bucket));
  }
  return out;
}

void Planner::set_rates(const StageConfig& stage, SegmentPlan* segment) const {
  std::vector<double> weights;
  std::vector<int64_t> block, sizes;
  for (const BucketPlan& bucket : segment->buckets) {
    weights.push_back(bucket.weight);
    block.push_back(bucket.block);
    sizes.push_back(bucket.tokens);
  }
  std::vector<uint64_t> rates;
  try {
    rates = raw_rates(weights, block, sizes, plan_.unit);
  } catch (const ConfigError& error) {
    throw ConfigError(text("stages.", stage.name, ".sources: ", error.what()));
  }
  double total = 0;
  for (const uint64_t rate : rates) total += static_cast<double>(rate);
  for (size_t s = 0; s < rates.size(); ++s) {
    BucketPlan& bucket = segment->buckets[s];
    if (rates[s] == 0) {
      throw ConfigError(text("stages.", stage.name, ".sources.", bucket.source, ": bucket ",
                             bucket.name,
                             " would get less than a billionth of the draws and never be drawn"));
    }
    bucket.rate = rates[s];
    bucket.probability = static_cast<double>(rates[s]) / total;
  }
}

void Planner::set_expectations(SegmentPlan* segment) const {
  for (BucketPlan& bucket : segment->buckets) {
    bucket.samples =
        segment->draws_per_step() * bucket.probability * static_cast<double>(bucket.block);
    segment->expected_samples += bucket.samples;
    segment->expected_tokens += bucket.samples * static_cast<double>(bucket.tokens);
    segment->expected_flops += bucket.samples * bucket.flops;
    segment->loss_denominator += bucket.samples * bucket.loss_weight;
  }
  for (BucketPlan& bucket : segment->buckets) {
    bucket.share = bucket.samples * bucket.flops / segment->expected_flops;
  }
}

int64_t Planner::steps_of(const StageConfig& stage, const SegmentPlan& segment) const {
  if (stage.steps > 0) return stage.steps;
  if (stage.compute <= 0) {
    throw ConfigError(
        text("stages.", stage.name, ": neither steps nor compute says how long it lasts"));
  }
  if (config_.total_flops <= 0) {
    throw ConfigError(
        text("stages.", stage.name, ".compute: needs total_flops, the FLOPs of the whole run"));
  }
  const double steps = std::round(config_.total_flops * stage.compute / segment.expected_flops);
  if (!(steps < 1e15))
    throw ConfigError(text("stages.", stage.name, ".compute: ", steps, " steps are too many"));
  return std::max<int64_t>(1, static_cast<int64_t>(steps));
}

void Planner::warn_of(const StageConfig& stage, SegmentPlan* segment) const {
  for (const BucketPlan& bucket : segment->buckets) {
    const double draws = segment->draws_per_step() * bucket.probability;
    if (draws < 1) {
      segment->warnings.push_back(fmt::format(
          "bucket {} is missing from some steps: {:.2f} draws of it are expected per step; "
          "raise mesh.accumulate or lower its batch",
          bucket.name, draws));
    }
    if (plan_.beat > 0 && bucket.cost > 1.001 * plan_.beat &&
        !stage.batch.contains(bucket.source)) {
      segment->warnings.push_back(fmt::format(
          "bucket {} takes {:.2f} beats on {} process{}, and all slots wait for it; raise "
          "mesh.beat",
          bucket.name, bucket.cost / plan_.beat, bucket.width, bucket.width == 1 ? "" : "es"));
    }
    const double memory = plan_.memory(bucket.shape, bucket.batch, bucket.width).total();
    if (options_.memory_bytes > 0 && memory > 1.001 * options_.memory_bytes) {
      segment->warnings.push_back(fmt::format(
          "bucket {}: a pass of {} on each process needs {:.1f} GB, mesh.device_memory_gb is "
          "{:.1f}; lower its batch",
          bucket.name, bucket.batch, memory * 1e-9, options_.memory_bytes * 1e-9));
    }
    if (static_cast<int64_t>(bucket.entries.size()) < bucket.block) {
      segment->warnings.push_back(
          fmt::format("bucket {} has {} samples, a draw takes {}: samples repeat within a draw",
                      bucket.name, bucket.entries.size(), bucket.block));
    }
  }
  const int64_t numbers = int64_t{geometry_.latent_channels()} * geometry_.patch[0] *
                          geometry_.patch[1] * geometry_.patch[2];
  if (stage.objective.predict == "velocity" && numbers > geometry_.width) {
    segment->warnings.push_back(
        fmt::format("a token holds {} numbers, more than the model's width {}: velocity cannot be "
                    "represented, set objective.predict: x",
                    numbers, geometry_.width));
  }
}

void Planner::warn_of_epochs() {
  for (const auto& [name, source] : config_.sources) {
    const double epochs = plan_.epochs(name);
    if (source.max_epochs > 0 && epochs > source.max_epochs) {
      plan_.warnings.push_back(
          fmt::format("source {} would be seen {:.1f} times, its max_epochs is {:g}", name, epochs,
                      source.max_epochs));
    }
  }
}

}  // namespace

Plan make_plan(const Config& config, const std::vector<SourceCatalogue>& catalogues,
               const Geometry& geometry, const PlanOptions& options) {
  return Planner(config, catalogues, geometry, options).plan();
}

Plan make_plan(const Config& config, const std::vector<SourceCatalogue>& catalogues,
               const Geometry& geometry) {
  return make_plan(config, catalogues, geometry, plan_options(config.mesh, geometry));
}

Plan continue_plan(const Plan& saved, int64_t finished_steps, const Config& config,
                   const std::vector<SourceCatalogue>& catalogues, const Geometry& geometry) {
  return Planner(config, catalogues, geometry, saved.options, &saved, finished_steps).plan();
}

}  // namespace pendulum
