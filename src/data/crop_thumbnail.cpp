// Draws what is cropped away.
#include "data/crop_thumbnail.h"

#include <algorithm>
#include <cmath>

namespace pendulum {
namespace {

constexpr uint8_t kFrame[3] = {255, 32, 32};

}  // namespace

std::variant<Frames, ReadFailure> crop_thumbnail(std::span<const uint8_t> bytes,
                                                 const Sample& sample, int height, int width,
                                                 int side) {
  const double scale = static_cast<double>(side) / std::max(sample.width, sample.height);
  const ClipRequest request{
      .frames = 1,
      .fps = 1,
      .height = std::max(1, static_cast<int>(std::lround(sample.height * scale))),
      .width = std::max(1, static_cast<int>(std::lround(sample.width * scale))),
      .excerpt = sample.excerpt};
  auto read = read_clip(bytes, request);
  if (!std::holds_alternative<Frames>(read)) return read;
  Frames& picture = std::get<Frames>(read);
  // The crop as the reader makes it, about the centre.
  const double wanted = static_cast<double>(width) / height;
  const double shown = static_cast<double>(picture.width) / picture.height;
  const int crop_width =
      static_cast<int>(std::lround(std::min<double>(picture.width, picture.height * wanted)));
  const int crop_height =
      static_cast<int>(std::lround(shown > wanted ? picture.height : picture.width / wanted));
  const int left = (picture.width - crop_width) / 2, right = left + crop_width - 1;
  const int top = (picture.height - crop_height) / 2, bottom = top + crop_height - 1;
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x) {
      uint8_t* pixel = picture.pixel(0, y, x);
      if (x < left || x > right || y < top || y > bottom) {
        for (int c = 0; c < 3; ++c) pixel[c] /= 3;
      } else if (x == left || x == right || y == top || y == bottom) {
        std::copy_n(kFrame, 3, pixel);
      }
    }
  }
  return read;
}

}  // namespace pendulum
