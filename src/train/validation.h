// Loss on held-out samples at fixed noise and fixed times: a number that falls only when the model
// gets better.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "attention/sequence_group.h"
#include "batch/sources.h"
#include "batch/withdrawals.h"
#include "comm/communicator.h"
#include "embed/embedder.h"
#include "objective/flow_matching.h"

namespace pendulum {

// The times at which every held-out sample is looked at.
inline constexpr double kValidationTimes[] = {0.1, 0.3, 0.5, 0.7, 0.9};

// Mean loss by source, one number per validation time; NaN where a source has no readable held-out
// sample, and at times that are not trained.
using ValidationLoss = std::map<std::string, std::vector<double>>;

// Mean over all sources and times with a number.
double overall(const ValidationLoss& loss);

class Validation {
 public:
  Validation(const Config& config, const Geometry& geometry, const Sources& sources,
             const Embedder& embedder, Communicator& world);

  // In the buckets of the stage, without withdrawn samples, the others dealt in turn to the groups
  // that `network` shares a sample in; `group` is this process's. Every process gets the same
  // numbers; forwards_made is called when this one has called the network for the last time.
  // Collective.
  ValidationLoss measure(const StageConfig& stage, const FlowMatching& objective,
                         const Network& network, at::Device device, const SequenceGroup& group,
                         const Withdrawals& withdrawals,
                         const std::function<void()>& forwards_made) const;

 private:
  const Config& config_;
  const Geometry& geometry_;
  const Sources& sources_;
  const Embedder& embedder_;
  Communicator& world_;
};

}  // namespace pendulum
