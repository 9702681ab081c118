// Writes frames as H.264 MP4, PNG or JPEG.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/frames.h"

namespace pendulum {

struct VideoQuality {
  double crf = 12;  // x264's constant rate factor: 0 lossless, 12 invisible losses, 23 common
  const char* preset = "veryfast";  // x264's effort
};

// H.264 in MP4, 4:2:0, BT.709 limited range, index in front. Error for odd sizes, for no frames,
// and where the file cannot be written (the path is named). The same frames give the same bytes.
void write_video(const std::string& path, const Frames& frames, double fps,
                 const VideoQuality& quality = {});

// One frame as .png, .jpg or .jpeg, by the path's extension.
void write_image(const std::string& path, const Frames& frame);

// The same in memory.
std::vector<uint8_t> encode_png(const Frames& frame);
std::vector<uint8_t> encode_jpeg(const Frames& frame);

}  // namespace pendulum
