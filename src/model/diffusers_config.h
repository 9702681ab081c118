// The config.json beside a transformer's weights, in the terms of Python's diffusers.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "model/config.h"

namespace pendulum {

nlohmann::json diffusers_config(const WanConfig& config);

// The inverse. DataError naming `path` and the field for another class, a missing field, a wrong
// type, a size that is not positive, image states of another width than the model, or another
// query-key norm.
WanConfig read_diffusers_config(const nlohmann::json& json, const std::string& path);

}  // namespace pendulum
