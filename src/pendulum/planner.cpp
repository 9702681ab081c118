// From the YAML and the sizes of the sources to segments: buckets, widths, batches, rates, steps.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "pendulum/draw_size.h"
#include "pendulum/plan.h"

namespace pendulum {
namespace {

RateUnit unit_of(const std::string& words) {
  if (words == "samples") return RateUnit::samples;
  if (words == "tokens") return RateUnit::tokens;
  if (words == "draws") return RateUnit::draws;
  throw ConfigError(text("weights: '", words, "' is not known; samples, tokens or draws"));
}

double beat_in_flops(const Beat& beat, const PlanOptions& options) {
  if (beat.flops > 0 || beat.seconds <= 0) return beat.flops;
  if (options.device_flops <= 0) {
    throw ConfigError(
        "mesh.beat is given in seconds, but how many FLOPs a second a device does is not known; "
        "give "
        "mesh.device_flops, the beat in FLOPs, or a batch per stage");
  }
  return beat.seconds * options.device_flops;
}

class Planner {
 public:
  Planner(const Config& config, const std::vector<SourceCatalogue>& catalogues,
          const Geometry& geometry, const PlanOptions& options)
      : config_(config), catalogues_(catalogues), geometry_(geometry), options_(options) {}

  Plan plan();

 private:
  void check_mesh() const;
  SegmentPlan plan_stage(int stage);
  std::vector<BucketPlan> buckets_of(int stage, const std::string& source, double weight,
                                     SegmentPlan* segment);
  void identify(BucketPlan* bucket, const std::string& stage_name);
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
  Plan plan_;
  std::vector<std::pair<std::string, std::vector<int64_t>>>
      identities_;  // base name, entries; as Plan::buckets
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
  if (options_.device_flops <= 0) options_.device_flops = config_.mesh.device_flops;
  if (options_.widths.empty()) options_.widths = divisors(config_.mesh.slot);
  std::erase_if(options_.widths, [&](int w) { return w < 1 || config_.mesh.slot % w != 0; });
  std::sort(options_.widths.begin(), options_.widths.end());
  if (options_.widths.empty())
    throw ConfigError(text("mesh.slot: no allowed width divides ", config_.mesh.slot));
  plan_.seed = config_.run.seed;
  plan_.run_name = config_.run.name;
  plan_.slot = config_.mesh.slot;
  plan_.unit = unit_of(config_.weights);
  plan_.geometry = geometry_;
  plan_.options = options_;
  plan_.beat = beat_in_flops(config_.mesh.beat, options_);
  plan_.moving_average = config_.optim.ema > 0;
  plan_.updaters = config_.mesh.zero > 0 ? config_.mesh.slot : 1;
  for (const SourceCatalogue& source : catalogues_) {
    check(std::is_sorted(source.samples.begin(), source.samples.end()),
          "sample numbers ascend: ", source.name);
    plan_.sources.push_back({source.name, source.digest, source.samples, {}});
  }
  for (size_t i = 0; i < config_.stages.size(); ++i) {
    plan_.segments.push_back(plan_stage(static_cast<int>(i)));
  }
  warn_of_epochs();
  return std::move(plan_);
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
  for (BucketPlan& bucket : segment.buckets) {
    bucket.epochs = bucket.samples * static_cast<double>(segment.steps) /
                    static_cast<double>(bucket.entries.size());
  }
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

// Samples that fill fewer frames than the stage asks form buckets of their own.
std::vector<BucketPlan> Planner::buckets_of(int number, const std::string& source, double weight,
                                            SegmentPlan* segment) {
  const StageConfig& stage = config_.stages[number];
  const SourceCatalogue& data = catalogue(stage.name, source);
  check(static_cast<size_t>(number) < data.frames.size() &&
            data.frames[number].size() == data.samples.size(),
        "frames for every sample of source ", source, " in stage ", stage.name);
  std::map<int, std::vector<int64_t>> by_frames;
  int64_t unusable = 0, usable = 0;
  for (size_t i = 0; i < data.samples.size(); ++i) {
    const int frames =
        fitting_frames(geometry_, std::min(data.frames[number][i], stage.shape.frames));
    if (frames == 0) {
      ++unusable;
      continue;
    }
    by_frames[frames].push_back(data.samples[i]);
    ++usable;
  }
  if (usable == 0) {
    throw ConfigError(text("stages.", stage.name, ".sources.", source,
                           ": the source has no training sample for shape ", stage.shape.name()));
  }
  if (unusable > 0) {
    segment->warnings.push_back(
        fmt::format("source {}: {} of {} samples cannot be used in this stage", source, unusable,
                    data.samples.size()));
  }
  std::vector<BucketPlan> out;
  for (auto& [frames, entries] : by_frames) {
    BucketPlan bucket;
    bucket.source = source;
    bucket.shape = {frames, stage.shape.height, stage.shape.width};
    bucket.tokens = tokens(geometry_, bucket.shape);
    if (plan_.unit == RateUnit::tokens) bucket.loss_weight = static_cast<double>(bucket.tokens);
    bucket.flops = training_flops(geometry_, bucket.shape);
    bucket.weight = weight * static_cast<double>(entries.size()) / static_cast<double>(usable);
    bucket.entries = std::move(entries);
    identify(&bucket, stage.name);
    out.push_back(std::move(bucket));
  }
  return out;
}

// A bucket goes on from an earlier stage when its samples are the same. The same shape with other
// samples (a longer stage takes the long clips away) is another bucket and carries its stage's
// name.
void Planner::identify(BucketPlan* bucket, const std::string& stage_name) {
  const std::string base = bucket->source + "/" + bucket->shape.name();
  bool taken = false;
  for (size_t i = 0; i < identities_.size(); ++i) {
    if (identities_[i].first != base) continue;
    taken = true;
    if (identities_[i].second != bucket->entries) continue;
    bucket->index = static_cast<int>(i);
    bucket->name = plan_.buckets[i].name;
    bucket->uid = plan_.buckets[i].uid;
    return;
  }
  bucket->index = static_cast<int>(identities_.size());
  bucket->name = taken ? base + "@" + stage_name : base;
  bucket->uid = hash_name(bucket->name);
  for (const Bucket& other : plan_.buckets) {
    check(other.uid != bucket->uid, "bucket names with different hashes: ", other.name, " and ",
          bucket->name);
  }
  identities_.emplace_back(base, bucket->entries);
  plan_.buckets.emplace_back(bucket->name, static_cast<int64_t>(bucket->entries.size()));
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
    if (static_cast<int64_t>(bucket.entries.size()) < bucket.block) {
      segment->warnings.push_back(
          fmt::format("bucket {} has {} samples, a draw takes {}: samples repeat within a draw",
                      bucket.name, bucket.entries.size(), bucket.block));
    }
  }
  const int64_t numbers =
      int64_t{geometry_.channels} * geometry_.patch[0] * geometry_.patch[1] * geometry_.patch[2];
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

}  // namespace pendulum
