// pendulum.json: what an export says about itself beyond the transformer's own config.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "export/trained_model.h"

namespace pendulum {

inline constexpr char kRecordFile[] = "pendulum.json";
inline constexpr char kRecordFormat[] = "pendulum-export";
inline constexpr int kRecordVersion = 1;

// Where weights come from, as `training` of an export's record.
nlohmann::json training_record(const Provenance& provenance);

// The same as a file of its own, training.json, in a folder with weights in another program's
// layout.
void write_training_record(const Provenance& provenance, const std::string& folder);

nlohmann::json model_record(const TrainedModel& model, at::ScalarType dtype);

// The settings of a record, without weights: codec_config, text_config, image_config, first_frame,
// generate, objective, shape, provenance. The weights of encoders are not named: the export has its
// own. DataError naming `path` and the field.
TrainedModel read_model_record(const nlohmann::json& record, const std::string& path);

}  // namespace pendulum
