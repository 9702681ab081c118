// `pendulum export`: a checkpoint as a folder that other programs load.
#include <CLI/CLI.hpp>
#include <memory>

#include "apps/commands.h"
#include "core/error.h"
#include "core/log.h"
#include "export/adapter.h"
#include "export/export.h"
#include "export/pipeline_folder.h"
#include "export/single_file.h"

namespace pendulum {
namespace {

struct ExportOptions {
  std::string checkpoint, folder;
  std::string format = "diffusers";
  std::string dtype = "fp32";
  double shard_gb = kShardBytes * 1e-9;
  bool is_adapter = false;
  bool is_raw = false;
  bool is_forced = false;
};

void run_export(const ExportOptions& options) {
  if (options.format != "diffusers" && options.format != "comfyui")
    throw ConfigError(text("--format ", options.format, ": expected diffusers or comfyui"));
  if (options.dtype != "fp32" && options.dtype != "bf16") {
    throw ConfigError(text("--dtype ", options.dtype, ": expected fp32 or bf16"));
  }
  const at::ScalarType dtype = options.dtype == "fp32" ? at::kFloat : at::kBFloat16;
  TrainedModel model = open_model(options.checkpoint, options.is_raw);
  const WeightLayout layout =
      options.format == "diffusers" ? WeightLayout::diffusers : WeightLayout::original;
  if (options.is_adapter) {
    const std::string file = write_adapter(model, options.folder, layout, dtype, options.is_forced);
    info("{}: adapters of step {} of run {} ({}), written, read back and compared", file,
         model.provenance.step, model.provenance.run, model.provenance.weights);
    return;
  }
  if (model.transformer->has_adapters()) {
    model.transformer->merge_adapters();
    info("adapters are merged into {}; --adapter writes them alone", model.provenance.base);
  }
  if (layout == WeightLayout::original) {
    const std::string file = write_single_file(model, options.folder, dtype, options.is_forced);
    info("{}: step {} of run {} ({}), written, read back and compared", file, model.provenance.step,
         model.provenance.run, model.provenance.weights);
    return;
  }
  write_export(model, options.folder, dtype, options.is_forced,
               static_cast<uint64_t>(options.shard_gb * 1e9));
  info("{}: step {} of run {} ({}), written, reloaded and compared", options.folder,
       model.provenance.step, model.provenance.run, model.provenance.weights);
  const std::string pipeline = pipeline_class(model);
  if (pipeline.empty())
    info("diffusers loads its transformer; the whole it cannot run: {}", pipeline_obstacle(model));
  else
    info("diffusers loads it whole: {}.from_pretrained", pipeline);
}

}  // namespace

void add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* command =
      app.add_subcommand("export", "write a trained model for other programs to load");
  command
      ->add_option("CHECKPOINT", options->checkpoint,
                   "a checkpoint, a run's folder, or an export to convert")
      ->required();
  command->add_option("DIR", options->folder, "the folder to write")->required();
  command
      ->add_option("--format", options->format,
                   "diffusers, or comfyui: one file in the original names")
      ->capture_default_str();
  command->add_option("--shard-gb", options->shard_gb, "largest file of weights, for diffusers")
      ->check(CLI::Range(1e-6, 1e6))
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "fp32 or bf16")->capture_default_str();
  command->add_flag("--adapter", options->is_adapter,
                    "of a run with `lora`: the adapters alone, not merged into their base model");
  command->add_flag("--raw", options->is_raw,
                    "the weights as trained in place of their moving average");
  command->add_flag("--force", options->is_forced, "replace an earlier export");
  command->callback([options] { run_export(*options); });
}

}  // namespace pendulum
