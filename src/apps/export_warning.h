// What a run's export will lack, told before the run rather than behind it.
#pragma once
#include "config/config.h"

namespace pendulum {

// Warns where diffusers could draw with what this configuration trains, but for text.length.
void warn_of_export(const Config& config);

}  // namespace pendulum
