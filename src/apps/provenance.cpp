// pendulum data keygen, verify, bom, trace, prove: what was trained on, for those who ask later.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "apps/commands.h"
#include "apps/run_plan.h"
#include "batch/sources.h"
#include "core/error.h"
#include "core/publish.h"
#include "provenance/bill_of_materials.h"
#include "provenance/evidence.h"
#include "provenance/replay.h"
#include "provenance/trace.h"
#include "rights/signature.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string target;         // a run, a checkpoint or an export
  std::string runs = "runs";  // where to look for the run of an export
  std::string item, public_key, out;
  std::vector<std::string> exports;
};

void print(const std::string& words) { std::fputs(words.c_str(), stdout); }

std::string log_of(const std::string& run) { return (fs::path(run) / kConsumptionFile).string(); }

// The run that the target is or belongs to, and what the target says of itself.
struct Target {
  std::string run;
  std::optional<Evidence> evidence;  // none: the run itself
};

// A checkpoint lies in its run's folder; an export lies anywhere.
std::string run_of_weights(const Evidence& evidence, const std::string& runs) {
  const fs::path above = fs::weakly_canonical(evidence.folder).parent_path().parent_path();
  if (!evidence.is_export && fs::exists(above / kConsumptionFile)) return above.string();
  return run_of(evidence, runs);
}

Target target_of(const Options& options) {
  if (fs::exists(log_of(options.target))) return {options.target, std::nullopt};
  const auto evidence = evidence_of(options.target);
  if (!evidence) {
    throw ConfigError(
        text(options.target, ": is neither a run's folder nor a checkpoint nor an export"));
  }
  return {run_of_weights(*evidence, options.runs), evidence};
}

Config config_of(const std::string& run) {
  Config config = load_config((fs::path(run) / "config.yaml").string());
  config.embed.cache = "off";
  return config;
}

FrozenRights rights_of(const std::string& run) {
  return read_frozen_rights((fs::path(run) / kRightsFile).string());
}

void run_keygen(const Options& options) {
  const SigningKey key = SigningKey::generate(options.target);
  print(
      fmt::format("{0}: private, for rights.key; keep it where only the run can read it\n"
                  "{0}.pub: public, for those who verify\n{1}\n",
                  options.target, key.public_key()));
}

// One line for what a folder of weights says; false where it does not hold.
bool report_evidence(const Evidence& evidence, const ConsumptionHistory* history,
                     const std::string& key) {
  try {
    const int64_t line = history ? line_of(evidence, *history) : evidence.head.seq;
    const SignatureVerdict verdict = judge_signature(evidence, key);
    print(fmt::format("{} (step {}): {}, {}\n", evidence.folder, evidence.step,
                      history ? fmt::format("line {} of the log is its head", line + 1)
                              : std::string("no log beside it"),
                      verdict.words));
    return verdict.is_good;
  } catch (const DataError& error) {
    print(text(error.what(), "\n"));
    return false;
  }
}

bool verify_run(const std::string& run, const std::string& given_key) {
  const ConsumptionHistory history = read_history(log_of(run));
  print(fmt::format("{}: {} lines, each the continuation of the one before; {}\n", history.path,
                    history.lines,
                    history.public_key.empty() ? "no key named" : "key " + history.public_key));
  bool is_good = given_key.empty() || history.public_key == given_key;
  if (!is_good) print(text("the log does not name the key ", given_key, "\n"));
  for (const Evidence& evidence : checkpoints_of(run))
    is_good &=
        report_evidence(evidence, &history, given_key.empty() ? history.public_key : given_key);
  return is_good;
}

bool verify_weights(const Options& options, const std::string& given_key) {
  const auto evidence = evidence_of(options.target);
  if (!evidence) throw ConfigError(text(options.target, ": is neither a run nor holds weights"));
  if (evidence->is_export && !fs::is_directory(options.runs)) {
    // The signature is all there is; a key that only the export names shows little.
    return report_evidence(*evidence, nullptr,
                           given_key.empty() ? evidence->public_key : given_key);
  }
  const ConsumptionHistory history = read_history(log_of(run_of_weights(*evidence, options.runs)));
  return report_evidence(*evidence, &history, given_key.empty() ? history.public_key : given_key);
}

void run_verify(const Options& options, int& exit_code) {
  const std::string key = options.public_key.empty() ? "" : read_public_key(options.public_key);
  const bool is_run = fs::exists(log_of(options.target));
  const bool is_good = is_run ? verify_run(options.target, key) : verify_weights(options, key);
  print(is_good ? "verified\n" : "NOT verified\n");
  if (!is_good) exit_code = 1;
}

void run_bom(const Options& options) {
  const Target target = target_of(options);
  const ConsumptionHistory history = read_history(log_of(target.run));
  const int64_t at = target.evidence ? line_of(*target.evidence, history) : history.end();
  const FrozenRights rights = rights_of(target.run);
  const Sources sources = open_sources(config_of(target.run), rights);
  const BillOfMaterials bill = bill_of_materials(log_of(target.run), at, sources, rights);
  if (options.out.empty()) return print(to_spdx(bill));
  publish_text(options.out, to_spdx(bill));
  print(describe(bill));
}

void run_trace(const Options& options) {
  std::vector<std::string> roots = options.exports;
  if (roots.empty()) roots = {"."};
  print(describe(trace_item(options.item, options.runs, roots), options.item));
}

void run_prove(const Options& options, int& exit_code) {
  const ReplayReport report = replay(options.target, options.item, PlansAgain(options.target));
  // Lines cut off at the end leave a good chain: checkpoints know better.
  const ConsumptionHistory history = read_history(log_of(options.target));
  for (const Evidence& evidence : checkpoints_of(options.target)) line_of(evidence, history);
  print(describe(report, options.item));
  if (!report.is_absent()) exit_code = kNotAbsent;
}

}  // namespace

void add_provenance(CLI::App& data, int& exit_code) {
  const auto command = [&](const char* name, const char* help) {
    return std::pair(data.add_subcommand(name, help), std::make_shared<Options>());
  };
  const auto add_runs = [](CLI::App* app, Options& options) {
    app->add_option("--runs", options.runs, "folder that holds the runs' folders")
        ->capture_default_str();
  };
  {
    const auto [app, options] = command("keygen", "make an Ed25519 key that signs logs");
    app->add_option("KEY", options->target, "PEM file to make; its public half is KEY.pub")
        ->required();
    app->callback([options = options] { run_keygen(*options); });
  }
  {
    const auto [app, options] =
        command("verify", "check a consumption log, and what checkpoints and exports say of it");
    app->add_option("TARGET", options->target, "a run, a checkpoint or an export")->required();
    app->add_option("--public-key", options->public_key, "64 digits or a PEM file: who must sign");
    add_runs(app, *options);
    app->callback([options = options, &exit_code] { run_verify(*options, exit_code); });
  }
  {
    const auto [app, options] =
        command("bom", "SPDX 3 bill of materials of what was consumed, counted by holder");
    app->add_option("TARGET", options->target, "a run, a checkpoint or an export")->required();
    app->add_option("--out", options->out, "file to write; the counts are then printed as a table");
    add_runs(app, *options);
    app->callback([options = options] { run_bom(*options); });
  }
  {
    const auto [app, options] =
        command("trace", "runs, checkpoints and exports that consumed a sample");
    app->add_option("ID", options->item, "a sample's id, or sha256: and its hash")->required();
    app->add_option("--exports", options->exports,
                    "folder to look for exports in, two levels deep; may be repeated (default: .)")
        ->allow_extra_args(false);
    add_runs(app, *options);
    app->callback([options = options] { run_trace(*options); });
  }
  {
    const auto [app, options] = command(
        "prove", "replay a run's plans beside its log; exit code 3 where the sample was consumed");
    app->add_option("--absent", options->item, "a sample's id, or sha256: and its hash")
        ->required();
    app->add_option("RUN", options->target, "a run's folder")->required();
    app->callback([options = options, &exit_code] { run_prove(*options, exit_code); });
  }
}

}  // namespace pendulum
