// One sample of a data set: what is known about it without touching its media.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/frames.h"
#include "rights/deny_list.h"
#include "rights/policy.h"

namespace pendulum {

// What planning looks at.
struct SampleFacts {
  MediaKind kind = MediaKind::still;
  int width = 0, height = 0;
  int64_t frames = 1;
  double seconds = 0, fps = 0;
  bool is_validation = false;
};

struct Sample {
  std::string id;                     // unique in its pack
  std::vector<std::string> captions;  // at least one, UTF-8
  std::string licence;                // SPDX identifier or LicenseRef-...
  std::string holder;                 // who holds the rights
  std::string basis;       // why we may use it: "generated", "owner-attested", "licence-page", ...
  RightsTerms terms = {};  // what else its owner says
  std::string split = "train";  // "train" or "validation"
  std::string sha256;           // of the encoded bytes
  MediaKind kind = MediaKind::still;
  int width = 0, height = 0;  // pixels as displayed: rotation and pixel aspect applied
  double seconds = 0;         // 0 for stills
  double fps = 0;             // mean over the clip; 0 for stills
  int64_t frames = 1;
  Excerpt excerpt{};  // the sample is this part of the medium, and so are its seconds and frames
  std::vector<uint64_t> phashes = {};  // of the first and middle frame; packs of format 1 have none

  RightsRecord rights() const { return {licence, holder, basis, terms}; }
};

// The largest 4k+1 <= limit such that a window of that many frames at fps lies inside the sample.
// Stills: 1.
int clip_frames(const SampleFacts& sample, int limit, double fps);
SampleFacts facts_of(const Sample& sample);
inline int clip_frames(const Sample& sample, int limit, double fps) {
  return clip_frames(facts_of(sample), limit, fps);
}

// What the deny-list says of a sample; none where it does not name it.
std::optional<Verdict> denial(const Sample& sample, const DenyList& denied);
// The deny-list first, then the policy.
Verdict judge(const Sample& sample, const Policy& policy, const DenyList& denied);

// A sample as one JSON object and back. from_json throws DataError in which `where` ("file:line")
// stands first.
nlohmann::json to_json(const Sample& sample);
Sample sample_from_json(const nlohmann::json& object, const std::string& where);

}  // namespace pendulum
