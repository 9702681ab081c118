// What `pendulum plan` knows of a run whose data or encoders are not at hand.
#pragma once
#include <string>
#include <vector>

#include "config/config.h"
#include "pendulum/cost.h"
#include "pendulum/plan.h"

namespace pendulum {

// As a training run would have it. Where the weights of model.import are not there, the sizes are
// those of model.preset; codec and encoders whose weights are not there count with the published
// sizes of their kind. A warning says which.
Geometry planned_geometry(const Config& config);

struct PlannedSources {
  std::vector<SourceCatalogue> catalogues;
  std::vector<std::string> assumed;  // names of the sources whose data is not there
};

// Opens the sources whose data is there and judges their rights; of the others, takes what
// `assume_samples` says: each sample as large as its stage's shape. DataError where data is missing
// and nothing is assumed.
PlannedSources planned_sources(const Config& config, const Geometry& geometry);

}  // namespace pendulum
