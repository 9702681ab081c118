// pendulum config: the resolved file with every default, or the documented schema.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "config/config.h"
#include "core/error.h"

namespace pendulum {

void add_config(CLI::App& app) {
  struct Options : ConfigOptions {
    bool reference = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("config", "print the resolved configuration, or the documented schema");
  add_config_options(*command, *options);
  command->get_option("CONFIG")->required(false);
  command->add_flag("--reference", options->reference,
                    "print the reference of all keys as Markdown");
  command->callback([options] {
    if (!options->reference && options->path.empty())
      throw ConfigError("pendulum config: name a YAML file, or --reference");
    const std::string page = options->reference
                                 ? config_reference()
                                 : print_config(load_config(options->path, options->overrides));
    std::fputs(page.c_str(), stdout);
  });
}

}  // namespace pendulum
