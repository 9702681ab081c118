// Reads pictures and videos out of memory: what they are, and frames of a wanted shape at wanted
// times.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "data/frames.h"

namespace pendulum {

struct MediaInfo {
  MediaKind kind = MediaKind::still;
  int width = 0, height = 0;  // pixels as displayed: rotation and pixel aspect applied
  double seconds = 0;  // from the first frame's appearance to the last one's end; 0 for stills
  double fps = 0;      // frames / seconds; 0 for stills
  int64_t frames = 1;
  std::string format;  // "mov,mp4,.../h264", "png"
};

// The window is centred in time: its instants start + i/fps lie between the appearance of the first
// frame and that of the last one. A clip shorter than that starts at its first frame and holds its
// last one.
struct ClipRequest {
  int frames = 1;
  double fps = 8;
  int height = 0,
      width = 0;  // pixels; the picture is cropped about its centre to this aspect, then resized
  Excerpt excerpt = {};  // the window lies in it, as if there were no other frames
};

// Any container and codec that libav reads, from the file's bytes. Never throws for what is in the
// bytes: they come from outside. Nothing but the bytes is opened: playlists that point elsewhere
// are refused. A failure too where the excerpt reaches beyond the medium's end. One frame is
// decoded.
std::variant<MediaInfo, ReadFailure> probe_media(std::span<const uint8_t> bytes,
                                                 const Excerpt& excerpt = {});

// Each frame is the one shown at its instant (the last whose time stamp is not later). Colours
// become full-range RGB as the stream says (BT.601, 709, 2020; limited or full), transparency lies
// over white.
std::variant<Frames, ReadFailure> read_clip(std::span<const uint8_t> bytes,
                                            const ClipRequest& request);

// The first frame alone, likewise cropped about its centre and resized.
std::variant<Frames, ReadFailure> read_first_frame(std::span<const uint8_t> bytes, int height,
                                                   int width);

// Decodes all there is of the excerpt and returns the number of frames: the check that it is whole.
std::variant<int64_t, ReadFailure> decode_every_frame(std::span<const uint8_t> bytes,
                                                      const Excerpt& excerpt = {});

}  // namespace pendulum
