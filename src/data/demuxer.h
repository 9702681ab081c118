// Takes a medium's container apart: its one video track as packets, with the time at which each
// frame is shown.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "data/av_handles.h"
#include "data/frames.h"

namespace pendulum {

// The largest picture taken: a side, and an area (whose decoded planes stay below 1 GiB).
inline constexpr int kMaxSide = 16384;
inline constexpr int64_t kMaxPixels = int64_t{1} << 27;

struct Track {
  std::string format;  // the container's name
  AvParameters codec;
  AVRational time_base{1, 1};
  AVRational sample_aspect{0, 1};                  // of the container; 0: ask the frames
  std::optional<std::array<int32_t, 9>> rotation;  // display matrix of the container
  std::vector<AvPacket> packets;                   // in decoding order
  // When each frame appears, seconds, sorted; and when the last one ends.
  std::vector<double> times;
  double end = 0;
  bool has_stamps = false;  // frames carry their time; otherwise the k-th frame has times[k]
  // The frames that belong to the excerpt: places in times, first and last.
  size_t first = 0, last = 0;

  bool is_excerpt() const { return first > 0 || last + 1 < times.size(); }
  double last_ends() const { return last + 1 < times.size() ? times[last + 1] : end; }
  // Stamps are rounded to the container's ticks (1 ms in Matroska): so far a frame may lie behind
  // its instant and still count.
  double tolerance() const;
};

// PNG, JPEG and WebP are recognised by their first bytes and skip libavformat: its probing costs
// more than decoding a small picture does. What lies behind the excerpt is not read where the
// container's stamps allow that. A failure besides: an excerpt of a still, or one with fewer than
// two frames.
std::variant<Track, ReadFailure> demux(std::span<const uint8_t> bytes, const Excerpt& excerpt);

// Reads to the end, and fails besides where the excerpt ends more than half a frame behind it.
std::variant<Track, ReadFailure> demux_whole(std::span<const uint8_t> bytes,
                                             const Excerpt& excerpt);

}  // namespace pendulum
