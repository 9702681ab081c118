// Lays frames of many clips out on one picture.
#include "data/contact_sheet.h"

#include <algorithm>

#include "core/error.h"

namespace pendulum {

Frames contact_sheet(const std::vector<Frames>& clips, int columns, const SheetStyle& style) {
  check(columns > 0 && style.margin >= 0 && style.clips_per_row > 0, "a layout with columns");
  if (clips.empty()) throw Error("a contact sheet needs at least one clip");
  int cell_height = 0, cell_width = 0;
  for (const Frames& clip : clips) {
    check(clip.count > 0, "clips with frames");
    cell_height = std::max(cell_height, clip.height);
    cell_width = std::max(cell_width, clip.width);
  }
  const int clip_count = static_cast<int>(clips.size());
  const int across = std::min(style.clips_per_row, clip_count);
  const int rows = (clip_count + across - 1) / across;
  const int step_y = cell_height + style.margin, step_x = cell_width + style.margin;
  // Twice the margin between clips that share a row.
  const int block = columns * step_x + style.margin;
  Frames sheet(1, rows * step_y + style.margin, across * block);
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), style.background);

  for (int c = 0; c < clip_count; ++c) {
    const Frames& clip = clips[c];
    const int top = c / across * step_y + style.margin;
    const int cells = std::min(columns, clip.count);
    for (int column = 0; column < cells; ++column) {
      // First and last included; a single column shows the middle.
      const int t =
          cells == 1 ? clip.count / 2 : (column * (clip.count - 1) + (cells - 1) / 2) / (cells - 1);
      const int left = c % across * block + style.margin + column * step_x;
      for (int y = 0; y < clip.height; ++y) {
        std::copy_n(clip.pixel(t, y, 0), 3 * clip.width, sheet.pixel(0, top + y, left));
      }
    }
  }
  return sheet;
}

}  // namespace pendulum
