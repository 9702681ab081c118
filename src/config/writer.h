// From the structs to a document.
#pragma once
#include "config/config.h"
#include "config/document.h"

namespace pendulum {

enum class Keys { all, fixed };  // fixed: only those that may not change on resume

// Every key with its value, also where it is the default.
Value write_config(const Config& config, Keys keys = Keys::all);

// What a stage has before its own keys are laid over: the run's optim and objective.
StageConfig stage_prototype(const Config& config);
Value write_stage(const StageConfig& stage);

// A value as YAML on one line: "[0.9, 0.99]", "{frames: 9, size: 32x32}".
std::string flow_text(const Value& value);

}  // namespace pendulum
