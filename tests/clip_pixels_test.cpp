// How the pixels of a clip or still arrive: crop, scale, orientation, colour.
#include "stored_media.h"

#include <array>
#include <cmath>

#include "data/crop_thumbnail.h"
#include "data/scene.h"

namespace pendulum {
namespace {

TEST(ReadClip, CropsAboutTheCentre) {
  const Bytes wide = store(48, 32, stamps(2, 125), {}, paint_place);
  const Frames square = read(wide, {.frames = 1, .fps = 8, .height = 32, .width = 32});
  EXPECT_EQ(square.pixel(0, 0, 0)[0], 5 * 8);
  EXPECT_EQ(square.pixel(0, 31, 31)[0], 5 * 39);
  EXPECT_EQ(square.pixel(0, 31, 31)[1], 5 * 31);
  const Frames flat = read(wide, {.frames = 1, .fps = 8, .height = 16, .width = 48});
  EXPECT_EQ(flat.pixel(0, 0, 0)[1], 5 * 8);
  EXPECT_EQ(flat.pixel(0, 15, 47)[0], 5 * 47);
}

TEST(ReadClip, ShrinkingTakesMeansOverAreas) {
  const Bytes clip = store(48, 48, stamps(2, 125), {}, paint_place);
  const Frames half = read(clip, {.frames = 1, .fps = 8, .height = 24, .width = 24});
  for (int y = 0; y < 24; ++y) {
    for (int x = 0; x < 24; ++x) {
      // The mean of 5 (2 i) and 5 (2 i + 1); libswscale goes through YUV, which costs up to 3 of
      // 255.
      EXPECT_NEAR(half.pixel(0, y, x)[0], 10 * x + 2.5, 3.5);
      EXPECT_NEAR(half.pixel(0, y, x)[1], 10 * y + 2.5, 3.5);
    }
  }
}

TEST(ReadClip, ExtremeSizesAreResized) {
  for (const auto& [width, height] :
       std::vector<std::pair<int, int>>{{1, 1}, {3, 2}, {1, 50}, {50, 1}, {37, 23}}) {
    const Bytes clip = store(width, height, stamps(2, 125), {}, paint_place);
    EXPECT_EQ(probe(clip).width, width);
    for (const int target : {1, 7, 16, 33}) {
      const Frames frames = read(clip, {.frames = 2, .fps = 8, .height = target, .width = target});
      EXPECT_EQ(frames.rgb.size(), size_t{2} * 3 * target * target);
    }
  }
  Frames large(1, 600, 9000);
  std::fill(large.rgb.begin(), large.rgb.end(), 77);
  const Frames small = read(encode_png(large), {.frames = 1, .height = 8, .width = 8});
  for (const uint8_t value : small.rgb) EXPECT_NEAR(value, 77, 1);
}

// (x', y') = (a x + c y, b x + d y), 16.16 fixed point.
std::vector<int32_t> matrix(int a, int b, int c, int d) {
  return {a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30};
}

TEST(ReadClip, RotationMetadataIsApplied) {
  struct Case {
    std::vector<int32_t> matrix;
    bool transposed;
    std::function<std::pair<int, int>(int x, int y)>
        from;  // shown pixel -> stored pixel; stored 40 x 20
  };
  const std::vector<Case> cases = {
      {matrix(0, 1, -1, 0), true,
       [](int x, int y) { return std::pair(y, 19 - x); }},  // a quarter to the right
      {matrix(-1, 0, 0, -1), false, [](int x, int y) { return std::pair(39 - x, 19 - y); }},
      {matrix(0, -1, 1, 0), true,
       [](int x, int y) { return std::pair(39 - y, x); }},  // a quarter to the left
      {matrix(-1, 0, 0, 1), false, [](int x, int y) { return std::pair(39 - x, y); }},  // mirrored
  };
  for (const Case& c : cases) {
    // MP4 keeps the matrix; lossless x264 in RGB keeps the pixels.
    const Bytes clip = store(40, 20, stamps(3, 125),
                             {.container = "mp4",
                              .codec = "libx264rgb",
                              .rotation = c.matrix,
                              .options = "qp=0,preset=ultrafast"},
                             paint_place);
    const int width = c.transposed ? 20 : 40, height = c.transposed ? 40 : 20;
    EXPECT_EQ(probe(clip).width, width);
    EXPECT_EQ(probe(clip).height, height);
    const Frames frames = read(clip, {.frames = 3, .fps = 8, .height = height, .width = width});
    for (const auto& [x, y] :
         std::vector<std::pair<int, int>>{{0, 0}, {width - 1, 0}, {3, height - 1}, {7, 11}}) {
      const auto [from_x, from_y] = c.from(x, y);
      EXPECT_EQ(frames.pixel(2, y, x)[0], 5 * from_x) << x << " " << y;
      EXPECT_EQ(frames.pixel(2, y, x)[1], 5 * from_y) << x << " " << y;
    }
  }
}

TEST(ReadClip, ExifOrientationOfAPhotoIsApplied) {
  Frames photo(1, 16, 32);  // left half red, right half blue
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 32; ++x) photo.pixel(0, y, x)[x < 16 ? 0 : 2] = 200;
  }
  Bytes jpeg = encode_jpeg(photo);
  // Orientation 6: turn a quarter to the right, so red comes on top.
  const Bytes exif = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0,    0,    'M', 'M',
                      0,    42,   0, 0,  0,   8,   0,   1,   0x01, 0x12, 0,   3,
                      0,    0,    0, 1,  0,   6,   0,   0,   0,    0,    0,   0};
  jpeg.insert(jpeg.begin() + 2, exif.begin(), exif.end());
  EXPECT_EQ(probe(jpeg).width, 16);
  EXPECT_EQ(probe(jpeg).height, 32);
  const Frames frames = read(jpeg, {.frames = 1, .height = 32, .width = 16});
  EXPECT_GT(frames.pixel(0, 4, 8)[0], 150);
  EXPECT_GT(frames.pixel(0, 28, 8)[2], 150);
}

TEST(ReadClip, PixelsThatAreNotSquareAreWidened) {
  Storage wide;
  wide.sample_aspect = {2, 1};
  const Bytes clip = store(20, 40, stamps(2, 125), wide, paint_place);
  EXPECT_EQ(probe(clip).width, 40);
  EXPECT_EQ(probe(clip).height, 40);
  // Displayed it is 40x40: nothing is cropped, both edges are there (5 x runs from 0 to 95, 5 y
  // from 0 to 195).
  const Frames frames = read(clip, {.frames = 1, .fps = 8, .height = 40, .width = 40});
  EXPECT_LE(frames.pixel(0, 20, 0)[0], 5);
  EXPECT_GE(frames.pixel(0, 20, 39)[0], 90);
  EXPECT_LE(frames.pixel(0, 0, 20)[1], 4);
  EXPECT_GE(frames.pixel(0, 39, 20)[1], 191);
}

TEST(ReadClip, ColoursFollowTheStreamsMatrixAndRange) {
  struct Case {
    AVColorSpace space;
    AVColorRange range;
    int y, u, v;
    int r, g, b;
  };
  // Pure green and gray by the formulas of BT.601 and BT.709, limited and full range.
  const std::vector<Case> cases = {
      {AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, 173, 42, 26, 0, 255, 0},
      {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, 145, 54, 34, 0, 255, 0},
      {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_JPEG, 150, 44, 21, 0, 255, 0},
      {AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, 126, 128, 128, 128, 128, 128},
      {AVCOL_SPC_BT709, AVCOL_RANGE_JPEG, 126, 128, 128, 126, 126, 126},
      {AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED, 145, 54, 34, 0, 255,
       0},  // small and untagged: BT.601
  };
  for (const Case& c : cases) {
    Storage how{.format = AV_PIX_FMT_YUV420P, .space = c.space, .range = c.range};
    const Bytes clip =
        store(32, 32, stamps(2, 125), how, [&](int, AVFrame& f) { paint_yuv(f, c.y, c.u, c.v); });
    for (const int size : {32, 16, 48}) {
      const Frames frames = read(clip, {.frames = 1, .fps = 8, .height = size, .width = size});
      const uint8_t* p = frames.pixel(0, size / 2, size / 2);
      // Values are rounded to 8 bits twice, once as YUV: 2.
      EXPECT_NEAR(p[0], c.r, 2) << c.space << " " << c.range;
      EXPECT_NEAR(p[1], c.g, 2) << c.space << " " << c.range;
      EXPECT_NEAR(p[2], c.b, 2) << c.space << " " << c.range;
    }
  }
}

TEST(ReadClip, TransparencyLiesOverWhite) {
  const Bytes clip = store(
      16, 16, stamps(1, 125), {.container = "image2", .codec = "png", .format = AV_PIX_FMT_RGBA},
      [](int, AVFrame& frame) {
        for (int y = 0; y < 16; ++y) {
          for (int x = 0; x < 16; ++x) {
            uint8_t* p = frame.data[0] + y * frame.linesize[0] + 4 * x;
            p[0] = 200, p[1] = 0, p[2] = 0, p[3] = x < 8 ? 0 : (y < 8 ? 255 : 128);
          }
        }
      });
  const Frames frames = read(clip, {.frames = 1, .height = 16, .width = 16});
  EXPECT_EQ(frames.pixel(0, 4, 2)[1], 255);
  EXPECT_EQ(frames.pixel(0, 4, 12)[0], 200);
  EXPECT_EQ(frames.pixel(0, 4, 12)[1], 0);
  EXPECT_NEAR(frames.pixel(0, 12, 12)[1], 127, 1);
}

TEST(ReadClip, GrayPicturesAreFullRange) {
  for (const AVPixelFormat format : {AV_PIX_FMT_GRAY8, AV_PIX_FMT_GRAY16BE}) {
    const Bytes picture =
        store(16, 16, stamps(1, 125), {.container = "image2", .codec = "png", .format = format},
              [](int, AVFrame& f) { std::memset(f.data[0], 40, size_t(f.linesize[0]) * 16); });
    EXPECT_NEAR(read(picture, {.frames = 1, .height = 16, .width = 16}).pixel(0, 8, 8)[0], 40, 1);
    EXPECT_EQ(probe(picture).kind, MediaKind::still);
  }
}

TEST(ReadClip, StillsOfEveryKind) {
  const Scene scene = still_scene(3, 1);
  const Frames drawn = draw_scene(scene, 1, 48);
  for (const Bytes& bytes : {encode_png(drawn), encode_jpeg(drawn)}) {
    EXPECT_EQ(probe(bytes).kind, MediaKind::still);
    EXPECT_EQ(probe(bytes).seconds, 0);
    const Frames frames = read(bytes, {.frames = 5, .fps = 8, .height = 48, .width = 48});
    for (int t = 0; t < 5; ++t) {
      double squares = 0;
      for (size_t i = 0; i < drawn.rgb.size(); ++i) {
        squares += std::pow(double(frames.frame(t)[i]) - drawn.rgb[i], 2);
      }
      // JPEG's coarsest step at this quality is 21: an even error has 21 / sqrt(12) = 6 at most.
      EXPECT_LE(std::sqrt(squares / drawn.rgb.size()), bytes[0] == 0xff ? 6 : 0) << t;
    }
  }
}

TEST(CropThumbnail, FramesWhatABucketTakes) {
  const Bytes clip = store(40, 20, stamps(5, 125), {}, paint_place);
  Sample sample;
  sample.kind = MediaKind::clip;
  sample.width = 40;
  sample.height = 20;
  const auto drawn = crop_thumbnail(clip, sample, 16, 16, 40);
  const Frames& picture = std::get<Frames>(drawn);
  ASSERT_EQ(picture.width, 40);
  ASSERT_EQ(picture.height, 20);
  const auto at = [&](int y, int x) {
    const uint8_t* p = picture.pixel(0, y, x);
    return std::array<int, 3>{p[0], p[1], p[2]};
  };
  // The middle frame; the middle 20 of 40 columns are taken.
  EXPECT_EQ(at(9, 15), (std::array<int, 3>{75, 45, 20}));
  EXPECT_EQ(at(9, 9), (std::array<int, 3>{15, 15, 6}));
  EXPECT_EQ(at(9, 30), (std::array<int, 3>{50, 15, 6}));
  for (const auto& [y, x] : {std::pair{9, 10}, {9, 29}, {0, 15}, {19, 15}})
    EXPECT_EQ(at(y, x), (std::array<int, 3>{255, 32, 32})) << y << " " << x;
  EXPECT_TRUE(std::holds_alternative<ReadFailure>(crop_thumbnail({}, sample, 16, 16, 40)));
}

}  // namespace
}  // namespace pendulum
