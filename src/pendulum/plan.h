// The whole run as a list of segments: which buckets each stage draws from, how wide, how many, how
// often, for how long.
#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/shape.h"
#include "pendulum/buckets.h"
#include "pendulum/cost.h"
#include "pendulum/dealt_traffic.h"
#include "pendulum/memory.h"
#include "pendulum/segment.h"

namespace pendulum {

// How the samples of a bucket fit its size.
struct BucketFit {
  double crop = 0;       // sum of the shares that are cut away
  int64_t enlarged = 0;  // samples smaller than the bucket
};

// What the plan knows of one source; filled in by whoever has opened the data.
struct SourceCatalogue {
  std::string name;
  std::string digest;  // of the data's contents; frozen in the manifest
  // Permanent numbers of the training samples in the source's data, ascending.
  std::vector<int64_t> samples = {};
  // frames[stage][i]: frames that samples[i] fills at the stage's rate, 4k + 1, at most the
  // stage's; stills 1; 0: not usable in that stage. Empty for a stage that does not draw from the
  // source.
  std::vector<std::vector<int>> frames = {};
  // By stage too; sizes[stage][i] is the place of samples[i]'s size among StageBuckets::sizes().
  // Empty: the first for all.
  std::vector<std::vector<uint8_t>> sizes = {};
  std::vector<std::map<Shape, BucketFit>> fits = {};
  std::vector<std::map<std::string, int64_t>> refused = {};  // reason -> samples
  // Digests of the data's parts in order. Only behind the last one may parts be added, so that the
  // samples keep their numbers. Empty: one part.
  std::vector<std::string> parts = {};
};

// What belongs to the machines rather than to the YAML. A resumed run takes it from its manifest
// (options_of), because widths and batches follow from it.
struct PlanOptions {
  std::vector<int> widths;  // processes that may share a sample; empty: all that divide mesh.slot
  double memory_bytes = 0;  // of one device; 0: no bound
  int number_bytes = 4;     // of an activation: 4 in fp32, 2 in bf16
  CostModel cost;
  std::string measured;  // what `cost` was measured on; empty: computed from the YAML
};

// What the YAML says of the machine; measured costs where it names a calibration. ConfigError where
// that cannot be read, or was measured with another model than `geometry`.
PlanOptions plan_options(const MeshConfig& mesh, const Geometry& geometry);

struct BucketPlan {
  std::string name, source;
  Shape shape;
  uint64_t uid = 0;
  int index =
      0;  // place in Plan::buckets: the same bucket in two stages is one, its cursor runs on
  std::vector<int64_t> entries;  // entry -> sample number in its source
  // Entries whose samples may no longer be drawn, ascending: tombstones, for which replacements
  // stand in.
  std::vector<int64_t> withdrawn;
  int pieces = 1;          // of the bucket's pieces, those that hold in this segment
  int64_t tokens = 0;      // of one sample
  double weight = 0;       // the source's, divided by number of samples
  double loss_weight = 1;  // of a sample: its tokens where weights count tokens, else 1
  int width = 1;           // processes that share a sample
  int batch = 1;           // samples per group of `width` processes and pass
  int passes = 1;          // that a group makes in a draw
  int64_t block = 1;       // samples a slot takes in a draw: mesh.slot / width * batch * passes
  double flops = 0;        // training FLOPs of one sample
  double cost = 0;         // of a draw on each of its processes, in FLOPs (cost.h)
  uint64_t rate = 0;       // not normalised
  double probability = 0;  // of a draw: rate / sum of rates
  double samples = 0;      // expected per optimiser step
  double share = 0;        // of the segment's FLOPs
  double epochs = 0;       // expected passes over the bucket in this segment
  bool is_withdrawn(int64_t entry) const {
    return std::binary_search(withdrawn.begin(), withdrawn.end(), entry);
  }
  double crop = 0;       // mean share of a picture that is cut away
  int64_t enlarged = 0;  // samples that are smaller than the bucket
};

struct SegmentPlan {
  int stage = 0;
  std::string stage_name;
  int64_t steps = 0;   // optimiser steps
  double compute = 0;  // share of the run's FLOPs that was asked for; 0: steps were
  // A stage that was changed on its way goes on in another segment: steps of it before this one.
  int64_t stage_step = 0;
  int slots = 1, accumulate = 1, dwell = 1;
  std::vector<BucketPlan> buckets;  // light first
  // Expected per optimiser step.
  double expected_samples = 0;
  double expected_tokens = 0;
  double expected_flops = 0;
  double loss_denominator = 0;                                    // sum of samples x loss_weight
  std::map<std::string, std::map<std::string, int64_t>> refused;  // source -> reason -> samples
  std::vector<std::string> warnings;

  int draws_per_step() const { return slots * accumulate; }
  Segment segment(uint64_t seed, int ordinal) const;
};

// Why a segment began that the plan did not have before.
struct PlanChange {
  int64_t finished_steps = 0;     // of the run when it was made
  std::vector<std::string> what;  // in words, a line each
};

struct Plan {
  uint64_t seed = 0;
  std::string run_name;
  int slot = 1;  // processes of a logical slot
  RateUnit unit = RateUnit::samples;
  Geometry geometry;
  PlanOptions options;
  double beat = 0;  // FLOPs per process and micro-step (cost.h); 0: batches are given
  OptimizerMemory optimizer{};
  Dealing dealing{};            // with ZeRO over the processes of a full slot, at least
  DealtTraffic traffic{};       // of weights and gradients
  std::vector<Bucket> buckets;  // of all segments, cursors at 0
  std::vector<SegmentPlan> segments;
  std::vector<SourceCatalogue> sources;  // without `frames`
  std::vector<PlanChange> changes;       // in the order in which they were made
  std::vector<std::string> warnings;     // that concern the whole run

  int64_t total_steps() const;
  double total_flops() const;
  int64_t stage_steps(int segment) const;  // of all segments of its stage
  bool is_last_of_stage(int segment) const;
  // Expected passes over a source's training samples, by source: in one segment, and in the whole
  // run.
  double epochs(const std::string& source, int segment) const;
  double epochs(const std::string& source) const;
  // Cost of a pass of `batch` samples on each of the `width` processes that share them, with what
  // weights and gradients send in it.
  double pass_cost(const Shape& shape, int batch, int width) const;
  // What each of `width` processes holds in a pass of `batch` samples.
  ProcessMemory memory(const Shape& shape, int batch, int width) const;
  // Processes that share a sample somewhere in the run, ascending.
  std::vector<int> widths() const;
  // Everything that decides the order of samples, frozen; what a checkpoint keeps.
  nlohmann::json manifest() const;
  // SHA-256 of the manifest.
  std::string hash() const;
};

// Throws ConfigError naming the stage and the key: unknown source, source without samples, shape
// that codec and patch do not divide, neither batch nor beat, compute without total_flops, a width
// that does not divide the slot.
Plan make_plan(const Config& config, const std::vector<SourceCatalogue>& catalogues,
               const Geometry& geometry, const PlanOptions& options);
// With plan_options of the configuration's mesh.
Plan make_plan(const Config& config, const std::vector<SourceCatalogue>& catalogues,
               const Geometry& geometry);

// The plan that a manifest holds: enough to walk it, and so to replay a run. FLOPs, costs and
// expectations are not in it. DataError where the manifest is none or of another format.
Plan plan_from_manifest(const nlohmann::json& manifest);

// The plan of a run that has finished some steps of `saved`, with the configuration and data as
// they are now. What has been walked stays as it was. Where nothing changed that is `saved` itself.
// Otherwise a new segment begins there: buckets keep their entries and go on where they stood,
// withdrawn samples stay as tombstones, additions join at their bucket's next epoch, and the last
// of `changes` says what is different. ConfigError where the data's parts were not only added to.
Plan continue_plan(const Plan& saved, int64_t finished_steps, const Config& config,
                   const std::vector<SourceCatalogue>& catalogues, const Geometry& geometry);

// Why `now` is no continuation of `saved` after so many steps, in words as differs gives them;
// empty where it is one.
std::string breaks(const nlohmann::json& saved, const nlohmann::json& now, int64_t finished_steps);

// The first difference between two manifests in words, "segment 2 (low-res), bucket clips/9x32x32:
// batch was 4, is now 8"; empty where they agree.
std::string differs(const nlohmann::json& saved, const nlohmann::json& now);

// The options that a manifest was made with; DataError where it is none.
PlanOptions options_of(const nlohmann::json& manifest);

}  // namespace pendulum
