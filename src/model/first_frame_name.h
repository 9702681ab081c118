// The names of the ways in which a model is given first frames: of model.image_to_video, and of an
// export's record.
#pragma once
#include <optional>
#include <string>

#include "embed/conditions.h"

namespace pendulum {

std::string first_frame_name(FirstFrame kind);
// Nothing for any other word, such as `auto`.
std::optional<FirstFrame> first_frame_named(const std::string& name);

}  // namespace pendulum
