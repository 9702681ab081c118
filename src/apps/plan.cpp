// pendulum plan: what would run, without training.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/calibrate.h"
#include "apps/commands.h"
#include "apps/export_warning.h"
#include "apps/planned_run.h"
#include "apps/replay.h"
#include "core/error.h"
#include "core/log.h"
#include "core/publish.h"
#include "pendulum/bucket_report.h"
#include "pendulum/plan.h"
#include "pendulum/report.h"
#include "rights/origin.h"

namespace pendulum {
namespace {

struct PlanCommand : ConfigOptions {
  std::string json, html;
  double price = 0;
  int64_t micro_steps = 0;
  bool calibrate = false;
  double longest = 30;
};

// Where measured costs are kept: where the YAML says, else beside it.
std::string calibration_path(const PlanCommand& command, const Config& config) {
  if (!config.mesh.calibration.empty()) return config.mesh.calibration;
  return (std::filesystem::path(command.path).parent_path() / "calibration.json").string();
}

// Measures, writes the file, and makes the configuration use it. False on all processes but the
// first, which alone goes on.
bool measure(const PlanCommand& command, const std::vector<SourceCatalogue>& sources,
             const Geometry& geometry, Config* config) {
  const Machine machine(config->mesh);
  check_calibration_memory(geometry, machine);
  const std::string path = calibration_path(command, *config);
  config->mesh.calibration.clear();
  PlanOptions options = plan_options(config->mesh, geometry);
  // Shapes are asked for, not batches: any rate will do where none is known.
  if (options.cost.flops_per_second <= 0) options.cost.flops_per_second = 1e11;
  const Plan shapes = make_plan(*config, sources, geometry, options);
  TrainingPass pass(*config, machine, geometry);
  const Calibration calibration = calibrate(shapes, pass, machine, command.longest);
  if (machine.world().rank() != 0) return false;
  save_calibration(path, calibration);
  std::fputs(calibration_table(calibration).c_str(), stdout);
  const bool is_named = path == load_config(command.path, command.overrides).mesh.calibration;
  info("costs are in {}{}", path,
       is_named ? "" : "; runs use them where the YAML says mesh: {calibration: " + path + "}");
  config->mesh.calibration = path;
  return true;
}

void show_plan(const PlanCommand& command) {
  Config config = load_config(command.path, command.overrides);
  warn_of_export(config);
  const Geometry geometry = planned_geometry(config);
  const PlannedSources sources = planned_sources(config, geometry);
  if (command.calibrate && !measure(command, sources.catalogues, geometry, &config)) return;
  const Plan plan = make_plan(config, sources.catalogues, geometry);
  const bool is_asked = command.micro_steps > 0;
  const PlanReport report =
      report_of(plan, is_asked ? command.micro_steps : 4000, command.price, is_asked);
  std::fputs((report_text(report) + bucket_report(plan)).c_str(), stdout);
  if (!command.json.empty()) publish_text(command.json, report_json(report).dump(1) + "\n");
  if (!command.html.empty()) publish_text(command.html, report_html(report));
}

}  // namespace

void add_plan(CLI::App& app) {
  auto options = std::make_shared<PlanCommand>();
  auto replayed = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "plan", "show what would run: buckets, tokens, FLOPs, memory, mixture, balance, cost");
  add_config_options(*command, *options);
  command->get_option("CONFIG")->required(false);
  command->add_option(
      "--replay", *replayed,
      "folder of a run: walk its manifest again and compare its log of consumption");
  command->add_flag("--calibrate", options->calibrate,
                    "first measure passes on the device at hand, under mpirun widths too, and keep "
                    "the costs that fit them in mesh.calibration or beside CONFIG");
  command
      ->add_option("--longest", options->longest,
                   "seconds; with --calibrate, a shape whose pass takes more is left out")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--json", options->json, "also write the figures to this file");
  command->add_option("--html", options->html, "also write a page with plots to this file");
  command->add_option("--price", options->price, "dollars an hour of one device, for the cost")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option(
          "--micro-steps", options->micro_steps,
          "micro-steps that are simulated per stage; by default as many as a stage has, at "
          "most 4000")
      ->check(CLI::Range(1, kMostOfAnything));
  command->callback([options, replayed] {
    if (!replayed->empty()) {
      std::fputs(replay_run(*replayed).c_str(), stdout);
      return;
    }
    if (options->path.empty())
      throw ConfigError("plan: name the YAML file of a run, or with --replay the folder of one");
    with_places(*options, [&] { show_plan(*options); });
  });
}

}  // namespace pendulum
