// Many clips on one picture: a row per clip, evenly spaced frames from left to right.
#pragma once
#include <vector>

#include "data/frames.h"

namespace pendulum {

struct SheetStyle {
  int margin = 4;            // pixels around and between the pictures
  uint8_t background = 255;  // gray level of the margins
  int clips_per_row = 1;     // rows of the sheet may hold several clips side by side
};

// `columns` frames per clip, first and last included; stills stand once at the left. Clips may
// differ in size: cells take the largest. Error when there are no clips.
Frames contact_sheet(const std::vector<Frames>& clips, int columns, const SheetStyle& style = {});

}  // namespace pendulum
