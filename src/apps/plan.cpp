// pendulum plan: what would run, without training.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/embedding_parts.h"
#include "batch/sources.h"
#include "core/log.h"
#include "pendulum/plan.h"
#include "pendulum/report.h"

namespace pendulum {

void add_plan(CLI::App& app) {
  auto options = std::make_shared<ConfigOptions>();
  CLI::App* command = app.add_subcommand(
      "plan", "show what would run: buckets, tokens, FLOPs, memory, mixture, balance");
  add_config_options(*command, *options);
  command->callback([options] {
    Config config = load_config(options->path, options->overrides);
    config.embed.cache = "off";  // nothing is embedded
    const Sources sources = open_sources(config);
    if (!sources.refused.empty()) {
      warn("{} samples may not be trained on; the first: {} {}: {}", sources.refused.size(),
           sources.refused.front().source, sources.refused.front().id,
           sources.refused.front().reason);
    }
    const Plan plan =
        make_plan(config, catalogues(sources, config), geometry(config, EmbeddingParts(config)));
    std::fputs(plan_report(plan).c_str(), stdout);
  });
}

}  // namespace pendulum
