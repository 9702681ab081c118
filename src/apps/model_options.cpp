// Options of a trained model, read and applied.
#include "apps/model_options.h"

#include <cstdio>

#include "core/error.h"

namespace pendulum {

void add_model_options(CLI::App& command, ModelOptions& options) {
  command.add_option("FOLDER", options.folder, "an export, a checkpoint or a run's folder")
      ->required();
  command.add_flag("--raw", options.is_raw,
                   "the weights as trained in place of their moving average");
  command.add_option("--device", options.device, "cpu, cuda or auto")->capture_default_str();
  command.add_option("--steps", options.steps, "steps of the solver");
  command.add_option("--guidance", options.guidance, "guidance scale; 1: none");
  command.add_option("--shift", options.shift, "shift of the solver's times towards noise");
  command.add_option("--solver", options.solver, "euler or ab2");
  command.add_option("--frames", options.frames, "frames of a clip; 1: a still");
  command.add_option("--size", options.size, "HEIGHTxWIDTH in pixels, such as 32x32");
}

TrainedModel open_model(const ModelOptions& options) {
  TrainedModel model = open_model(options.folder, options.is_raw);
  GenerateConfig& generate = model.generate;
  if (options.steps) generate.steps = *options.steps;
  if (options.guidance) generate.guidance = *options.guidance;
  if (options.shift) generate.shift = *options.shift;
  if (!options.solver.empty()) generate.solver = options.solver;
  generate_settings(
      generate, model.objective);  // throws for what is out of range, before anything is computed
  model.to(options.device);
  return model;
}

Shape shape_of(const ModelOptions& options, const TrainedModel& model) {
  Shape shape = model.shape;
  if (options.frames) shape.frames = *options.frames;
  if (!options.size.empty()) {
    int end = 0;
    const int read =
        std::sscanf(options.size.c_str(), "%6dx%6d%n", &shape.height, &shape.width, &end);
    if (read != 2 || end != static_cast<int>(options.size.size())) {
      throw ConfigError(
          text("--size ", options.size, ": expected HEIGHTxWIDTH in pixels, such as 32x32"));
    }
  }
  model.check_shape(shape);
  return shape;
}

}  // namespace pendulum
