// The subcommands: each adds itself to the command line and says what happens when it is chosen.
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace pendulum {

// Exit codes. 1: an error that is neither of these.
inline constexpr int kSuccess = 0, kUserMistake = 2, kStoppedBySignal = 75;
// `data prove --absent`: the item was consumed.
inline constexpr int kNotAbsent = 3;

// The upper end of counts on the command line: a bound whose message can be read.
inline constexpr int kMostOfAnything = 1'000'000'000;

void add_train(CLI::App& app, int& exit_code);
void add_plan(CLI::App& app);
void add_data(CLI::App& app, int& exit_code);
void add_provenance(CLI::App& data, int& exit_code);  // keygen, verify, bom, trace, prove
void add_sample(CLI::App& app);
void add_eval(CLI::App& app);
void add_export(CLI::App& app);
void add_bench(CLI::App& app);
void add_bench_attention(CLI::App& bench);  // among the things to measure
void add_bench_catalogue(CLI::App& bench);
void add_bench_codec(CLI::App& bench);
void add_bench_data(CLI::App& bench);
void add_bench_import(CLI::App& bench);
void add_bench_sharding(CLI::App& bench);
void add_config(CLI::App& app);

// CONFIG and --set, as train, plan, bench and config take them.
struct ConfigOptions {
  std::string path;
  std::vector<std::string> overrides;
};
void add_config_options(CLI::App& command, ConfigOptions& options);

// Does `body`; a user's mistake that it throws with a key in front gets that key's file and line.
void with_places(const ConfigOptions& options, const std::function<void()>& body);

}  // namespace pendulum
