// The data sets a run names: opened, judged by the rights policy, and split into training and
// validation samples.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/packed_data.h"
#include "pendulum/plan.h"
#include "rights/frozen.h"
#include "rights/policy.h"

namespace pendulum {

// A sample that the policy refused, with the reason in words.
struct RefusedSample {
  std::string source, id, reason;
  std::string rule;  // what it failed
};

// One source of the YAML. Numbers are sample indices of `data`.
struct OpenSource {
  std::string name;
  PackedData data;
  std::vector<int64_t> training;    // in packed order: a sample's place here is permanent
  std::vector<int64_t> validation;  // never trained on
};

struct Sources {
  std::vector<OpenSource> open;  // sorted by name
  std::vector<RefusedSample> refused;
  Denials denials() const;

  const OpenSource& operator[](const std::string& name) const;
};

// Opens every source; `rights` are those that the run began with. Samples marked `validation` are
// held out; where a source marks none, the config's number of samples with the smallest hashed ids
// is. ConfigError where nothing is left to train on, with the commonest reason.
Sources open_sources(const Config& config, const FrozenRights& rights);

// What the plan needs to know of the sources: the bucket of each training sample in each stage.
std::vector<SourceCatalogue> catalogues(const Sources& sources, const Config& config,
                                        const Geometry& geometry);

// What the choice of a bucket needs of a sample, watched at the stage's rate.
SampleShape shape_of(const SampleFacts& sample, const StageConfig& stage);

}  // namespace pendulum
