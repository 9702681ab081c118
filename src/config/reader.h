// From the document to the structs.
#pragma once
#include "config/config.h"
#include "config/document.h"

namespace pendulum {

// Every key of the document is known, of its type and in its range; ConfigError names the first
// that is not.
Config read_config(const Value& root);

// What must hold between keys; `root` tells where they were written.
void check_config(const Config& config, const Value& root);

}  // namespace pendulum
