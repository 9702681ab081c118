// The run's folder.
#include "apps/run_folder.h"

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint_store.h"
#include "core/error.h"
#include "core/log.h"
#include "core/publish.h"
#include "pendulum/report.h"
#include "shard/collect.h"

namespace pendulum {
namespace fs = std::filesystem;
namespace {

void move_aside(const std::string& path) {
  for (int n = 1;; ++n) {
    const std::string aside = text(path, ".before-", n);
    if (fs::exists(aside)) continue;
    fs::rename(path, aside);
    info("the earlier run is now in {}", aside);
    return;
  }
}

// One process reads them; all take its word, and later read what they hold themselves.
std::string newest_checkpoint(const std::string& path, Communicator& world) {
  LatestCheckpoint latest;
  if (world.rank() == 0) latest = latest_checkpoint(path);
  for (const std::string& note : latest.notes) warn("{}", note);
  return told_by(0, latest.folder.value_or(""), world);
}

}  // namespace

RunFolder::RunFolder(const Config& config, Communicator& world, bool fresh, bool resume)
    : path_(config.run.dir + "/" + config.run.name), is_first_(world.rank() == 0) {
  if (is_first_) {
    try {
      if (fresh && fs::exists(path_)) move_aside(path_);
      fs::create_directories(path_ + "/checkpoints");
    } catch (const fs::filesystem_error& e) {
      throw ConfigError(
          text("run.dir: the folder ", path_, " cannot be made: ", e.code().message()));
    }
    if (resume && fs::is_empty(path_ + "/checkpoints")) {
      throw ConfigError(
          text("--resume: ", path_, "/checkpoints is empty, there is nothing to go on from"));
    }
    const std::string frozen = path_ + "/" + kRightsFile;
    if (!fs::exists(frozen)) publish_text(frozen, print(freeze_rights(config.rights, utc_today())));
  }
  world.barrier();
  checkpoint_ = newest_checkpoint(path_, world);
  rights_ = read_frozen_rights(path_ + "/" + kRightsFile);
}

void RunFolder::describe(const Config& config, const Plan& plan, const Sources& sources) const {
  if (!is_first_) return;
  publish_text(path_ + "/config.yaml", print_config(config));
  publish_text(path_ + "/plan.json", plan.manifest().dump(1));
  std::string refused;
  for (const RefusedSample& r : sources.refused) {
    refused +=
        nlohmann::json{{"source", r.source}, {"id", r.id}, {"reason", r.reason}, {"rule", r.rule}}
            .dump() +
        "\n";
  }
  publish_text(path_ + "/refused.jsonl", refused);
  if (!sources.refused.empty()) {
    warn("{} samples may not be trained on and are left out; {}/refused.jsonl says why\n{}",
         sources.refused.size(), path_, pendulum::describe(sources.denials()));
  }
  info("run {} in {}, {} optimiser steps, {:.3g} TFLOP", config.run.name, path_, plan.total_steps(),
       plan.total_flops() * 1e-12);
  for (const SegmentPlan& segment : plan.segments) {
    for (const std::string& warning : segment.warnings) warn("{}: {}", segment.stage_name, warning);
  }
  for (const std::string& warning : plan.warnings) warn("{}", warning);
}

}  // namespace pendulum
