// A picture of a sample in which the part that a bucket takes is framed.
#pragma once
#include <cstdint>
#include <span>
#include <variant>

#include "data/media_reader.h"
#include "data/sample.h"

namespace pendulum {

// The middle frame, uncropped, its longer side `side` pixels; what a bucket of height x width cuts
// away is darkened and the rest framed.
std::variant<Frames, ReadFailure> crop_thumbnail(std::span<const uint8_t> bytes,
                                                 const Sample& sample, int height, int width,
                                                 int side);

}  // namespace pendulum
