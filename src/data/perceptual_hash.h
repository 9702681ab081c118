// Fingerprints of pictures that survive resizing, compression and small corrections: near copies of
// a medium are found by them.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "data/frames.h"
#include "data/media_reader.h"

namespace pendulum {

// 64 bits of frame t (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
// 2010, the DCT hash): luma averaged to 32 x 32, its orthonormal DCT-II, coefficients 1..8 in both
// directions, row by row from the highest bit; a bit says that its coefficient is above the median.
// Nothing for a picture without structure (no coefficient of one grey level's amplitude), whose
// bits would be noise and like any other's.
std::optional<uint64_t> perceptual_hash(const Frames& frames, int t);

// Of a medium's first frame and, of a clip, of the one in the middle; frames without structure are
// left out.
std::variant<std::vector<uint64_t>, ReadFailure> perceptual_hashes(std::span<const uint8_t> bytes,
                                                                   const MediaInfo& info);

}  // namespace pendulum
