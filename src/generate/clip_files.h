// Puts drawn clips where people look at them: one file each and a contact sheet of all.
#pragma once
#include <string>
#include <vector>

#include "data/frames.h"
#include "generate/generator.h"

namespace pendulum {

struct ClipFiles {
  std::vector<std::string> clips;  // paths, in the order of the prompts
  std::string contact_sheet;       // path
};

// Writes "<place>-<caption>-<seed>.mp4" (.png for a single frame) for every clip, and
// contact_sheet.png, into `folder`, which is made if it is missing. fps: frames per second of the
// files.
ClipFiles write_clips(const std::string& folder, const std::vector<Prompt>& prompts,
                      const std::vector<Frames>& clips, double fps);

// One clip to `path`: a video, or a picture where it has one frame. ConfigError where the extension
// does not fit: .mp4 for clips; .png, .jpg or .jpeg for stills.
void write_clip(const std::string& path, const Frames& clip, double fps);

// True for a path that ends in one of the extensions above.
bool is_clip_path(const std::string& path);

}  // namespace pendulum
