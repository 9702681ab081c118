// `pendulum export`: a checkpoint as a folder that other programs load.
#include <CLI/CLI.hpp>
#include <memory>

#include "apps/commands.h"
#include "core/error.h"
#include "core/log.h"
#include "export/export.h"

namespace pendulum {
namespace {

struct ExportOptions {
  std::string checkpoint, folder;
  std::string format = "diffusers";
  std::string dtype = "fp32";
  bool is_raw = false;
  bool is_forced = false;
};

void run_export(const ExportOptions& options) {
  if (options.format != "diffusers")
    throw ConfigError(text("--format ", options.format, ": expected diffusers"));
  if (options.dtype != "fp32" && options.dtype != "bf16") {
    throw ConfigError(text("--dtype ", options.dtype, ": expected fp32 or bf16"));
  }
  const TrainedModel model = open_model(options.checkpoint, options.is_raw);
  write_export(model, options.folder, options.dtype == "fp32" ? at::kFloat : at::kBFloat16,
               options.is_forced);
  info("{}: step {} of run {} ({}), written, reloaded and compared", options.folder,
       model.provenance.step, model.provenance.run, model.provenance.weights);
}

}  // namespace

void add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* command = app.add_subcommand("export", "write a trained model as a diffusers folder");
  command
      ->add_option("CHECKPOINT", options->checkpoint,
                   "a checkpoint, a run's folder, or an export to convert")
      ->required();
  command->add_option("DIR", options->folder, "the folder to write")->required();
  command->add_option("--format", options->format, "diffusers")->capture_default_str();
  command->add_option("--dtype", options->dtype, "fp32 or bf16")->capture_default_str();
  command->add_flag("--raw", options->is_raw,
                    "the weights as trained in place of their moving average");
  command->add_flag("--force", options->is_forced, "replace an earlier export");
  command->callback([options] { run_export(*options); });
}

}  // namespace pendulum
