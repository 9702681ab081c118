// Writing media: what is written reads back, and what cannot be written says so.
#include "data/media_writer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "data/contact_sheet.h"
#include "data/media_reader.h"
#include "data/scene.h"
#include "stored_media.h"

namespace pendulum {
namespace {

Frames read(const Bytes& bytes, const ClipRequest& request) {
  return std::get<Frames>(read_clip(bytes, request));
}

MediaInfo probe(const Bytes& bytes) { return std::get<MediaInfo>(probe_media(bytes)); }

TEST(WriteVideo, ComesBackNearlyLossless) {
  const std::string path = testing::TempDir() + "written.mp4";
  for (const auto& [count, size] :
       std::vector<std::pair<int, int>>{{1, 32}, {2, 48}, {17, 64}, {81, 32}}) {
    const Frames drawn = draw_scene(clip_scene(9, count), count, size);
    write_video(path, drawn, 8);
    const Bytes bytes = bytes_of(path);
    const MediaInfo info = probe(bytes);
    EXPECT_EQ(info.frames, count);
    if (count > 1) {
      EXPECT_NEAR(info.seconds, count / 8.0, 1e-3);
    }
    const Frames read_back =
        read(bytes, {.frames = count, .fps = 8, .height = size, .width = size});
    double squares = 0;
    for (size_t i = 0; i < drawn.rgb.size(); ++i)
      squares += std::pow(double(drawn.rgb[i]) - read_back.rgb[i], 2);
    // Halved colour resolution smears edges; 26 dB is far below what a frame shift or a wrong
    // matrix leaves.
    EXPECT_LE(std::sqrt(squares / drawn.rgb.size()), 12.8) << count;
    // Faststart: the index stands before the media.
    const std::string words(bytes.begin(), bytes.end());
    EXPECT_LT(words.find("moov"), words.find("mdat"));
  }
  // The same frames, the same bytes.
  const Bytes first = bytes_of(path);
  write_video(path, draw_scene(clip_scene(9, 81), 81, 32), 8);
  EXPECT_EQ(bytes_of(path), first);
}

TEST(WriteVideo, SaysWhatItCannotDo) {
  const std::string path = testing::TempDir() + "odd.mp4";
  try {
    write_video(path, Frames(2, 15, 16), 8);
    FAIL() << "odd sizes must be refused";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("16x15"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(path), std::string::npos);
  }
  EXPECT_THROW(write_video("/nowhere/a.mp4", Frames(2, 16, 16), 8), Error);
  EXPECT_THROW(write_image("/nowhere/a.png", Frames(1, 16, 16)), Error);
  EXPECT_THROW(write_image(testing::TempDir() + "a.bmp", Frames(1, 16, 16)), Error);
}

TEST(WriteImage, PngIsExactAtAnySize) {
  const std::string path = testing::TempDir() + "image.png";
  for (const auto& [height, width] : std::vector<std::pair<int, int>>{{1, 1}, {7, 13}, {64, 65}}) {
    Frames frame(1, height, width);
    for (size_t i = 0; i < frame.rgb.size(); ++i) frame.rgb[i] = static_cast<uint8_t>(draw(i));
    write_image(path, frame);
    EXPECT_EQ(read(bytes_of(path), {.frames = 1, .height = height, .width = width}).rgb, frame.rgb);
  }
}

TEST(ContactSheet, PlacesFramesOnAGrid) {
  std::vector<Frames> clips;
  for (int c = 0; c < 3; ++c) {
    clips.emplace_back(c == 2 ? 1 : 9, 8, 10);
    for (int t = 0; t < clips.back().count; ++t) {
      std::fill(clips.back().frame(t).begin(), clips.back().frame(t).end(),
                static_cast<uint8_t>(50 * c + 5 * t + 5));
    }
  }
  const Frames sheet = contact_sheet(clips, 3, {.margin = 2});
  EXPECT_EQ(sheet.width, 3 * 12 + 2);
  EXPECT_EQ(sheet.height, 3 * 10 + 2);
  EXPECT_EQ(sheet.pixel(0, 0, 0)[0], 255);
  EXPECT_EQ(sheet.pixel(0, 2, 2)[0], 5);     // clip 0, frame 0
  EXPECT_EQ(sheet.pixel(0, 2, 14)[0], 25);   // frame 4
  EXPECT_EQ(sheet.pixel(0, 2, 26)[0], 45);   // frame 8
  EXPECT_EQ(sheet.pixel(0, 12, 26)[0], 95);  // clip 1
  EXPECT_EQ(sheet.pixel(0, 22, 2)[0], 105);  // the still
  EXPECT_EQ(sheet.pixel(0, 22, 14)[0], 255);
  EXPECT_THROW(contact_sheet({}, 3), Error);
  EXPECT_EQ(contact_sheet(clips, 3, {.margin = 2, .clips_per_row = 2}).height, 2 * 10 + 2);
}

}  // namespace
}  // namespace pendulum
