// The program: picks the subcommand and turns errors into one paragraph and an exit code.
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "apps/commands.h"
#include "config/config.h"
#include "config/nearest.h"
#include "core/error.h"

namespace pendulum {

void add_config_options(CLI::App& command, ConfigOptions& options) {
  command.add_option("CONFIG", options.path, "YAML file of the run")->required();
  command
      .add_option("--set", options.overrides,
                  "override a key: --set optim.lr=1e-4, --set stages.image.steps=20")
      ->type_name("KEY=VALUE")
      ->take_all();
}

void with_places(const ConfigOptions& options, const std::function<void()>& body) {
  try {
    body();
  } catch (const ConfigError& error) {
    throw ConfigError(located(error.what(), options.path, options.overrides));
  }
}

namespace {

// CLI11 would say that a subcommand is required, which sounds as if none had been given.
void refuse_unknown_subcommand(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return;
  throw ConfigError(text("there is no subcommand \"", argv[1], "\"", did_you_mean(argv[1], names),
                         " (valid: ", listed(names), ")"));
}

// OpenMP's threads spin for milliseconds where they wait for each other. Beside other work, the
// embedding workers' or a neighbour's, the spinning takes the processor from what is waited for;
// some microseconds of it cost an idle machine nothing (docs/benchmarks). The OpenMP runtime reads
// its settings while it is loaded, before main: so the program starts itself again.
void wait_politely(char** argv) {
  for (const char* chosen : {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}) {
    if (std::getenv(chosen) != nullptr) return;
  }
  ::setenv("GOMP_SPINCOUNT", "10000", 0);
  // LibTorch asks for large pages then: fewer faults while tensors come and go.
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
  ::execv("/proc/self/exe", argv);
  // Where it cannot be started again, it goes on as it is: slower, not wrong.
}

int run_main(int argc, char** argv) {
  CLI::App app("Pendulum trains video diffusion transformers from one YAML file.", "pendulum");
  app.require_subcommand(1);
  app.set_version_flag("--version", PENDULUM_VERSION);
  int exit_code = kSuccess;
  add_train(app, exit_code);
  add_plan(app);
  add_data(app, exit_code);
  add_sample(app);
  add_eval(app);
  add_export(app);
  add_bench(app);
  add_config(app);
  try {
    refuse_unknown_subcommand(app, argc, argv);
    app.parse(argc, argv);
    return exit_code;
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? kSuccess : kUserMistake;
  } catch (const ConfigError& e) {
    std::fprintf(stderr, "pendulum: %s\n", e.what());
    return kUserMistake;
  } catch (const std::exception& e) {
    // LibTorch appends a C++ backtrace to its messages; people need the first paragraph.
    std::string words = e.what();
    if (std::getenv("PENDULUM_DEBUG") == nullptr)
      words = words.substr(0, words.find("\nException raised from"));
    std::fprintf(stderr, "pendulum: %s\n", words.c_str());
    return 1;
  }
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  pendulum::wait_politely(argv);
  return pendulum::run_main(argc, argv);
}
