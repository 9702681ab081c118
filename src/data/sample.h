// One sample of a data set: what is known about it without touching its media.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/frames.h"

namespace pendulum {

struct Sample {
  std::string id;                     // unique in its pack
  std::vector<std::string> captions;  // at least one, UTF-8
  std::string licence;                // SPDX identifier or LicenseRef-...
  std::string holder;                 // who holds the rights
  std::string basis;  // why we may use it: "generated", "owner-attested", "licence-page", ...
  std::string split = "train";  // "train" or "validation"
  std::string sha256;           // of the encoded bytes
  MediaKind kind = MediaKind::still;
  int width = 0, height = 0;  // pixels as displayed: rotation and pixel aspect applied
  double seconds = 0;         // 0 for stills
  double fps = 0;             // mean over the clip; 0 for stills
  int64_t frames = 1;
};

// The largest 4k+1 <= limit such that a window of that many frames at fps lies inside the sample.
// Stills: 1.
int clip_frames(const Sample& sample, int limit, double fps);

// A sample as one JSON object and back. from_json throws DataError in which `where` ("file:line")
// stands first.
nlohmann::json to_json(const Sample& sample);
Sample sample_from_json(const nlohmann::json& object, const std::string& where);

}  // namespace pendulum
