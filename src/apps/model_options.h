// The options that `sample` and `eval` share: which model, on which device, drawn how.
#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "core/shape.h"
#include "export/trained_model.h"

namespace pendulum {

struct ModelOptions {
  std::string folder;
  bool is_raw = false;
  std::string device = "auto";
  std::optional<int> steps;
  std::optional<double> guidance;
  std::optional<double> shift;
  std::string solver;
  std::optional<int> frames;
  std::string size;  // "HEIGHTxWIDTH"
};

// `options` must live as long as the command.
void add_model_options(CLI::App& command, ModelOptions& options);

// The model, on its device, its generate settings overridden as asked. ConfigError for settings out
// of range.
TrainedModel open_model(const ModelOptions& options);

// The shape asked for; what is left open is as the model was trained last.
Shape shape_of(const ModelOptions& options, const TrainedModel& model);

}  // namespace pendulum
