// The folder of a run: <run.dir>/<run.name>, with what is needed to repeat it.
#pragma once
#include <optional>
#include <string>

#include "batch/sources.h"
#include "comm/communicator.h"
#include "config/config.h"
#include "pendulum/plan.h"
#include "rights/frozen.h"

namespace pendulum {

class RunFolder {
 public:
  // Makes the folder. `fresh` moves an earlier run's contents aside (to <name>.before-<n>);
  // `resume` insists on a checkpoint; rights are frozen. ConfigError where the folder cannot be
  // made or there is nothing to resume. Collective.
  RunFolder(const Config& config, Communicator& world, bool fresh, bool resume);

  const std::string& path() const { return path_; }
  // The day and the deny-list that this run began with: of rights.json, which a first start writes.
  const FrozenRights& rights() const { return rights_; }
  // The newest complete checkpoint, of which one process has read every byte; empty: none.
  const std::string& checkpoint() const { return checkpoint_; }

  // Writes config.yaml, plan.json and refused.jsonl, and prints the plan. Rank 0.
  void describe(const Config& config, const Plan& plan, const Sources& sources) const;

 private:
  std::string path_, checkpoint_;
  FrozenRights rights_;
  bool is_first_;
};

}  // namespace pendulum
