// Reading and writing media: every test makes its own files, whose pixels say which frame and which
// place they are.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "core/random.h"
#include "data/av_handles.h"
#include "data/media_reader.h"
#include "data/media_writer.h"
#include "data/scene.h"

namespace pendulum {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// How a test clip is stored. Lossless FFV1 in RGB unless told otherwise.
struct Storage {
  const char* container = "matroska";
  const char* codec = "ffv1";
  AVPixelFormat format = AV_PIX_FMT_BGR0;
  AVRational time_base{1, 1000};
  AVRational sample_aspect{1, 1};
  std::vector<int32_t> rotation = {};  // display matrix
  AVColorSpace space = AVCOL_SPC_UNSPECIFIED;
  AVColorRange range = AVCOL_RANGE_UNSPECIFIED;
  const char* options = "";  // of the encoder: "crf=0,preset=ultrafast"
  int gop = 12;
};

// Writes frames of width x height at the given stamps through libav; paint(t, frame) fills the
// planes.
Bytes store(int width, int height, const std::vector<int64_t>& stamps, const Storage& how,
            const std::function<void(int, AVFrame&)>& paint) {
  const std::string path = testing::TempDir() + "media_test_store";
  AVFormatContext* output = nullptr;
  EXPECT_GE(avformat_alloc_output_context2(&output, nullptr, how.container, path.c_str()), 0);
  const AVCodec* codec = avcodec_find_encoder_by_name(how.codec);
  AvCodec encoder(avcodec_alloc_context3(codec));
  encoder->width = width;
  encoder->height = height;
  encoder->pix_fmt = how.format;
  encoder->time_base = how.time_base;
  encoder->sample_aspect_ratio = how.sample_aspect;
  encoder->colorspace = how.space;
  encoder->color_range = how.range;
  encoder->gop_size = how.gop;
  encoder->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;
  if (output->oformat->flags & AVFMT_GLOBALHEADER) encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  AVDictionary* options = nullptr;
  av_dict_parse_string(&options, how.options, "=", ",", 0);
  EXPECT_GE(avcodec_open2(encoder.get(), codec, &options), 0) << how.codec;
  av_dict_free(&options);
  AVStream* stream = avformat_new_stream(output, nullptr);
  avcodec_parameters_from_context(stream->codecpar, encoder.get());
  stream->time_base = how.time_base;
  stream->sample_aspect_ratio = how.sample_aspect;
  if (!how.rotation.empty()) {
    uint8_t* side = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof(int32_t));
    std::memcpy(side, how.rotation.data(), 9 * sizeof(int32_t));
  }
  EXPECT_GE(avio_open(&output->pb, path.c_str(), AVIO_FLAG_WRITE), 0);
  EXPECT_GE(avformat_write_header(output, nullptr), 0);
  AvFrame frame(av_frame_alloc());
  frame->width = width;
  frame->height = height;
  frame->format = how.format;
  av_frame_get_buffer(frame.get(), 0);
  AvPacket packet(av_packet_alloc());
  for (size_t t = 0; t <= stamps.size(); ++t) {
    if (t < stamps.size()) {
      av_frame_make_writable(frame.get());
      paint(static_cast<int>(t), *frame);
      frame->pts = stamps[t];
    }
    avcodec_send_frame(encoder.get(), t < stamps.size() ? frame.get() : nullptr);
    while (avcodec_receive_packet(encoder.get(), packet.get()) == 0) {
      // MP4's edit list would cut a last frame that lasts no time.
      packet->duration = stamps.size() > 1 ? stamps[1] - stamps[0] : 1;
      av_packet_rescale_ts(packet.get(), encoder->time_base, stream->time_base);
      EXPECT_GE(av_interleaved_write_frame(output, packet.get()), 0);
    }
  }
  av_write_trailer(output);
  avio_closep(&output->pb);
  avformat_free_context(output);
  Bytes bytes = bytes_of(path);
  std::filesystem::remove(path);
  return bytes;
}

// Red is 5 x, green 5 y, blue 10 t: a pixel that says where it comes from (x, y <= 50, t <= 25).
// BGR0 alone.
void paint_place(int t, AVFrame& frame) {
  for (int y = 0; y < frame.height; ++y) {
    uint8_t* p = frame.data[0] + y * frame.linesize[0];
    for (int x = 0; x < frame.width; ++x, p += 4) {
      p[0] = static_cast<uint8_t>(10 * t);
      p[1] = static_cast<uint8_t>(5 * y);
      p[2] = static_cast<uint8_t>(5 * x);
    }
  }
}

std::vector<int64_t> stamps(int count, int64_t step) {
  std::vector<int64_t> out(count);
  for (int i = 0; i < count; ++i) out[i] = i * step;
  return out;
}

Frames read(const Bytes& bytes, const ClipRequest& request) {
  auto result = read_clip(bytes, request);
  if (auto* failure = std::get_if<ReadFailure>(&result)) {
    ADD_FAILURE() << failure->reason;
    return {request.frames, request.height, request.width};
  }
  return std::get<Frames>(std::move(result));
}

MediaInfo probe(const Bytes& bytes) {
  const auto result = probe_media(bytes);
  if (auto* failure = std::get_if<ReadFailure>(&result)) {
    ADD_FAILURE() << failure->reason;
    return {};
  }
  return std::get<MediaInfo>(result);
}

// The frame numbers that a read gave, from the blue channel.
std::vector<int> numbers(const Frames& frames) {
  std::vector<int> out;
  for (int t = 0; t < frames.count; ++t) out.push_back((frames.pixel(t, 0, 0)[2] + 5) / 10);
  return out;
}

std::vector<int> run_of(int first, int count, int step = 1) {
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(first + i * step);
  return out;
}

TEST(ReadClip, EveryPixelOfEveryFrameIsExactWhenNothingIsScaled) {
  const Bytes clip = store(24, 16, stamps(9, 125), {}, paint_place);
  const Frames frames = read(clip, {.frames = 9, .fps = 8, .height = 16, .width = 24});
  for (int t = 0; t < 9; ++t) {
    for (int y = 0; y < 16; ++y) {
      for (int x = 0; x < 24; ++x) {
        const uint8_t* p = frames.pixel(t, y, x);
        ASSERT_TRUE(p[0] == 5 * x && p[1] == 5 * y && p[2] == 10 * t) << t << " " << y << " " << x;
      }
    }
  }
  const MediaInfo info = probe(clip);
  EXPECT_EQ(info.kind, MediaKind::clip);
  EXPECT_EQ(info.width, 24);
  EXPECT_EQ(info.height, 16);
  EXPECT_EQ(info.frames, 9);
  EXPECT_NEAR(info.fps, 8, 0.05);
  EXPECT_NEAR(info.seconds, 9.0 / 8, 0.01);
}

TEST(ReadClip, TheWindowIsCentredInTime) {
  const Bytes clip = store(16, 16, stamps(21, 125), {}, paint_place);
  const auto at = [&](int frames, double fps) {
    return numbers(read(clip, {.frames = frames, .fps = fps, .height = 16, .width = 16}));
  };
  EXPECT_EQ(at(21, 8), run_of(0, 21));
  EXPECT_EQ(at(9, 8), run_of(6, 9));
  EXPECT_EQ(at(1, 8), run_of(10, 1));
  EXPECT_EQ(at(5, 4), run_of(6, 5, 2));
  EXPECT_EQ(at(11, 4), run_of(0, 11, 2));
  // Twice the rate: every frame twice. Instants lie at 1.25 - 0.25 + i/16 s.
  EXPECT_EQ(at(9, 16), (std::vector<int>{8, 8, 9, 9, 10, 10, 11, 11, 12}));
}

TEST(ReadClip, AClipThatIsTooShortHoldsItsLastFrame) {
  const Bytes clip = store(16, 16, stamps(3, 125), {}, paint_place);
  EXPECT_EQ(numbers(read(clip, {.frames = 9, .fps = 8, .height = 16, .width = 16})),
            (std::vector<int>{0, 1, 2, 2, 2, 2, 2, 2, 2}));
}

TEST(ReadClip, VariableFrameRateGoesByTimeStamp) {
  // Frames appear at 0, 100, 250, 300, 1000 and 1100 ms; ten instants a second from 0 to 1.1 s.
  const Bytes clip = store(16, 16, {0, 100, 250, 300, 1000, 1100}, {}, paint_place);
  EXPECT_EQ(numbers(read(clip, {.frames = 12, .fps = 10, .height = 16, .width = 16})),
            (std::vector<int>{0, 1, 1, 3, 3, 3, 3, 3, 3, 3, 4, 5}));
}

TEST(ReadClip, RoundedStampsDoNotShowTheFrameBefore) {
  // 30 frames a second in milliseconds: 33, 67, 100: each stamp up to half a millisecond off its
  // instant.
  std::vector<int64_t> rounded;
  for (int i = 0; i < 25; ++i) rounded.push_back(std::llround(i * 1000.0 / 30));
  const Bytes clip = store(16, 16, rounded, {}, paint_place);
  EXPECT_EQ(numbers(read(clip, {.frames = 25, .fps = 30, .height = 16, .width = 16})),
            run_of(0, 25));
  EXPECT_EQ(numbers(read(clip, {.frames = 13, .fps = 15, .height = 16, .width = 16})),
            run_of(0, 13, 2));
}

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

void paint_yuv(AVFrame& frame, int y, int u, int v) {
  const int values[] = {y, u, v};
  for (int plane = 0; plane < 3; ++plane) {
    const int height = plane == 0 ? frame.height : (frame.height + 1) / 2;
    std::memset(frame.data[plane], values[plane], size_t(frame.linesize[plane]) * height);
  }
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

TEST(ReadClip, SeeksToTheKeyFrameBeforeTheWindow) {
  // 25 frames, reordered (B-frames), a key frame every 5, groups of pictures open and closed.
  for (const char* options :
       {"qp=0,bf=3,preset=medium,x264-params=open-gop=1:keyint=5:min-keyint=5",
        "qp=0,bf=2,preset=medium,x264-params=keyint=5:min-keyint=5"}) {
    for (const char* container : {"mp4", "matroska", "mpegts", "avi", "nut"}) {
      const Bytes clip = store(
          32, 32, stamps(25, 1),
          {.container = container, .codec = "libx264rgb", .time_base = {1, 8}, .options = options},
          paint_place);
      EXPECT_EQ(numbers(read(clip, {.frames = 3, .fps = 8, .height = 32, .width = 32})),
                run_of(11, 3))
          << container << " " << options;
      EXPECT_EQ(numbers(read(clip, {.frames = 25, .fps = 8, .height = 32, .width = 32})),
                run_of(0, 25))
          << container << " " << options;
      EXPECT_EQ(std::get<int64_t>(decode_every_frame(clip)), 25) << container;
      EXPECT_NEAR(probe(clip).fps, 8, 0.02) << container;
    }
  }
}

TEST(ReadClip, ManyContainersAndCodecs) {
  struct Case {
    const char *container, *codec;
    AVPixelFormat format;
  };
  for (const Case& c : std::vector<Case>{{"mp4", "mpeg4", AV_PIX_FMT_YUV420P},
                                         {"mov", "mjpeg", AV_PIX_FMT_YUVJ420P},
                                         {"mpeg", "mpeg2video", AV_PIX_FMT_YUV420P},
                                         {"gif", "gif", AV_PIX_FMT_GRAY8},
                                         {"apng", "apng", AV_PIX_FMT_GRAY8},
                                         {"webm", "libvpx-vp9", AV_PIX_FMT_YUV420P},
                                         {"ogg", "libtheora", AV_PIX_FMT_YUV420P},
                                         {"flv", "flv", AV_PIX_FMT_YUV420P}}) {
    if (avcodec_find_encoder_by_name(c.codec) == nullptr) continue;
    const Bytes clip = store(
        64, 48, stamps(9, 1),
        {.container = c.container, .codec = c.codec, .format = c.format, .time_base = {1, 25}},
        [&](int t, AVFrame& f) {
          if (c.format == AV_PIX_FMT_GRAY8) {
            std::memset(f.data[0], 20 * t + 30, size_t(f.linesize[0]) * f.height);
          } else {
            paint_yuv(f, 20 * t + 30, 128, 128);
          }
        });
    const MediaInfo info = probe(clip);
    EXPECT_EQ(info.kind, MediaKind::clip) << c.container;
    EXPECT_EQ(info.frames, 9) << c.container;
    const Frames frames = read(clip, {.frames = 9, .fps = 25, .height = 24, .width = 32});
    for (int t = 1; t < 9; ++t)
      EXPECT_GT(frames.pixel(t, 5, 5)[0], frames.pixel(t - 1, 5, 5)[0] + 8)
          << c.container << " " << t;
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

TEST(Failures, HaveReasonsAndNeverThrow) {
  const std::string text_words = "#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n";
  const std::string concat_words = "ffconcat version 1.0\nfile '/etc/hostname'\n";
  const std::string plain_words(5000, 'a');
  for (const std::string& words :
       {std::string(), text_words, concat_words, plain_words, std::string("\xff\xd8\xff"),
        std::string("\x89PNG\r\n\x1a\n"), std::string("RIFF....WEBP")}) {
    const Bytes bytes(words.begin(), words.end());
    for (const bool probes : {true, false}) {
      const std::string reason =
          probes ? std::get<ReadFailure>(probe_media(bytes)).reason
                 : std::get<ReadFailure>(read_clip(bytes, {.frames = 1, .height = 8, .width = 8}))
                       .reason;
      EXPECT_FALSE(reason.empty());
    }
  }
}

TEST(Failures, TruncatedMediaAreNamed) {
  const Frames still = draw_scene(still_scene(3, 2), 1, 64);
  const std::string path = testing::TempDir() + "truncated.mp4";
  write_video(path, draw_scene(clip_scene(3, 2), 17, 64), 8);
  const Bytes h264 = bytes_of(path);
  const Bytes mkv = store(48, 48, stamps(17, 125), {}, paint_place);
  for (const Bytes& whole : {encode_png(still), encode_jpeg(still), h264}) {
    EXPECT_FALSE(std::holds_alternative<ReadFailure>(decode_every_frame(whole)));
    for (const double share : {0.02, 0.3, 0.6, 0.9, 0.98}) {
      const Bytes part(whole.begin(),
                       whole.begin() + static_cast<std::ptrdiff_t>(share * whole.size()));
      EXPECT_TRUE(std::holds_alternative<ReadFailure>(decode_every_frame(part)))
          << share << " of " << whole.size();
    }
  }
  // Matroska says nowhere how many frames follow, but a frame cut in two is seen.
  const Bytes part(mkv.begin(), mkv.end() - 400);
  const auto count = decode_every_frame(part);
  EXPECT_TRUE(std::holds_alternative<ReadFailure>(count) || std::get<int64_t>(count) < 17);
}

TEST(Failures, FlippedBitsNeverCrash) {
  const std::string path = testing::TempDir() + "fuzz.mp4";
  write_video(path, draw_scene(clip_scene(3, 2), 9, 64), 8);
  const Frames still = draw_scene(still_scene(3, 2), 1, 64);
  const std::vector<Bytes> media = {bytes_of(path), store(32, 32, stamps(9, 125), {}, paint_place),
                                    encode_png(still), encode_jpeg(still)};
  int failed = 0;
  for (uint64_t i = 0; i < 800; ++i) {
    Bytes bytes = media[i % media.size()];
    for (uint64_t flip = 0; flip < 1 + i % 7; ++flip) {
      // Every other time in the head, where the structure is.
      const uint64_t reach = i % 2 == 0 ? bytes.size() : std::min<uint64_t>(bytes.size(), 1500);
      bytes[below(reach, draw(1, i, flip))] ^=
          static_cast<uint8_t>(1 << below(8, draw(2, i, flip)));
    }
    probe_media(bytes);
    const auto result = read_clip(bytes, {.frames = 5, .fps = 8, .height = 16, .width = 16});
    failed += std::holds_alternative<ReadFailure>(result);
    if (auto* frames = std::get_if<Frames>(&result)) {
      EXPECT_EQ(frames->rgb.size(), 5u * 3 * 16 * 16);
    }
  }
  EXPECT_GT(failed, 100);  // most damage is noticed
}

TEST(Failures, TooLargePicturesAreRefused) {
  // A PNG head that claims 20000 x 20000 pixels; its checksum is right.
  const Bytes head = {0x89, 'P', 'N', 'G',  13,   10, 26, 10,   0,    0, 0, 13, 'I', 'H', 'D',
                      'R',  0,   0,   0x4e, 0x20, 0,  0,  0x4e, 0x20, 8, 2, 0,  0,   0};
  Bytes png = head;
  uint32_t crc = 0xffffffff;
  for (size_t i = 12; i < head.size(); ++i) {
    crc ^= head[i];
    for (int b = 0; b < 8; ++b) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
  }
  for (int shift = 24; shift >= 0; shift -= 8) png.push_back(static_cast<uint8_t>(~crc >> shift));
  png.insert(png.end(), 100, 0);
  EXPECT_TRUE(std::holds_alternative<ReadFailure>(probe_media(png)));
  Frames wide(1, 2, 16386);
  EXPECT_NE(std::get<ReadFailure>(probe_media(encode_png(wide))).reason.find("16384"),
            std::string::npos);
}

}  // namespace
}  // namespace pendulum
