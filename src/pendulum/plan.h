// The whole run as a list of segments: which buckets each stage draws from, how wide, how many, how
// often, for how long.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/shape.h"
#include "pendulum/cost.h"
#include "pendulum/segment.h"

namespace pendulum {

// What the plan knows of one source; filled in by whoever has opened the data.
struct SourceCatalogue {
  std::string name;
  std::string digest;  // of the data's contents; frozen in the manifest
  std::vector<int64_t>
      samples;  // permanent numbers of the training samples in the source's data, ascending
  // frames[stage][i]: frames that samples[i] fills at the stage's rate, 4k + 1, at most the
  // stage's; stills 1; 0: not usable in that stage. Empty for a stage that does not draw from the
  // source.
  std::vector<std::vector<int>> frames;
};

// What belongs to the machines rather than to the YAML. A resumed run takes it from its manifest
// (options_of), because widths and batches follow from it.
struct PlanOptions {
  std::vector<int> widths;  // processes that may share a sample; empty: all that divide mesh.slot
  double device_flops = 0;  // FLOPs per second of one device; needed where mesh.beat is in seconds
  double memory_bytes = 0;  // of one device; 0: no bound
  double flops_per_byte =
      0;  // FLOPs a device does while a byte travels inside a slot; 0: communication is free
  int number_bytes = 4;  // of an activation: 4 in fp32, 2 in bf16
};

struct BucketPlan {
  std::string name, source;
  Shape shape;
  uint64_t uid = 0;
  int index =
      0;  // place in Plan::buckets: the same bucket in two stages is one, its cursor runs on
  std::vector<int64_t> entries;  // entry -> sample number in its source
  int64_t tokens = 0;            // of one sample
  double weight = 0;             // the source's, divided by number of samples
  double loss_weight = 1;        // of a sample: its tokens where weights count tokens, else 1
  int width = 1;                 // processes that share a sample
  int batch = 1;                 // samples per group of `width` processes
  int64_t block = 1;             // samples a slot takes in a draw: mesh.slot / width * batch
  double flops = 0;              // training FLOPs of one sample
  double cost = 0;               // of one sample on each of its processes, in FLOPs
  uint64_t rate = 0;             // not normalised
  double probability = 0;        // of a draw: rate / sum of rates
  double samples = 0;            // expected per optimiser step
  double share = 0;              // of the segment's FLOPs
  double epochs = 0;             // expected passes over the bucket in this segment
};

struct SegmentPlan {
  int stage = 0;
  std::string stage_name;
  int64_t steps = 0;  // optimiser steps
  int slots = 1, accumulate = 1, dwell = 1;
  std::vector<BucketPlan> buckets;  // light first
  // Expected per optimiser step.
  double expected_samples = 0;
  double expected_tokens = 0;
  double expected_flops = 0;
  double loss_denominator = 0;  // sum of samples x loss_weight
  std::vector<std::string> warnings;

  int draws_per_step() const { return slots * accumulate; }
  Segment segment(uint64_t seed, int ordinal) const;
};

struct Plan {
  uint64_t seed = 0;
  std::string run_name;
  int slot = 1;  // processes of a logical slot
  RateUnit unit = RateUnit::samples;
  Geometry geometry;
  PlanOptions options;
  double beat = 0;  // FLOPs per process and micro-step; 0: batches are given
  bool moving_average = false;
  int updaters =
      1;  // processes that updates are dealt over: with ZeRO those of a full slot, at least
  std::vector<Bucket> buckets;  // of all segments, cursors at 0
  std::vector<SegmentPlan> segments;
  std::vector<SourceCatalogue> sources;  // without `frames`
  std::vector<std::string> warnings;     // that concern the whole run

  int64_t total_steps() const;
  double total_flops() const;
  // Expected passes over a source's training samples, by source: in one segment, and in the whole
  // run.
  double epochs(const std::string& source, int segment) const;
  double epochs(const std::string& source) const;
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
               const Geometry& geometry, const PlanOptions& options = {});

// The first difference between two manifests in words, "segment 2 (low-res), bucket clips/9x32x32:
// batch was 4, is now 8"; empty where they agree.
std::string differs(const nlohmann::json& saved, const nlohmann::json& now);

// The options that a manifest was made with; DataError where it is none.
PlanOptions options_of(const nlohmann::json& manifest);

}  // namespace pendulum
