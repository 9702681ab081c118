// Which frames of a clip are read: window, time stamps, seeking, containers.
#include "stored_media.h"

namespace pendulum {
namespace {

TEST(ReadWindow, EveryPixelOfEveryFrameIsExactWhenNothingIsScaled) {
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

TEST(ReadWindow, TheWindowIsCentredInTime) {
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

TEST(ReadWindow, AClipThatIsTooShortHoldsItsLastFrame) {
  const Bytes clip = store(16, 16, stamps(3, 125), {}, paint_place);
  EXPECT_EQ(numbers(read(clip, {.frames = 9, .fps = 8, .height = 16, .width = 16})),
            (std::vector<int>{0, 1, 2, 2, 2, 2, 2, 2, 2}));
}

TEST(ReadWindow, VariableFrameRateGoesByTimeStamp) {
  // Frames appear at 0, 100, 250, 300, 1000 and 1100 ms; ten instants a second from 0 to 1.1 s.
  const Bytes clip = store(16, 16, {0, 100, 250, 300, 1000, 1100}, {}, paint_place);
  EXPECT_EQ(numbers(read(clip, {.frames = 12, .fps = 10, .height = 16, .width = 16})),
            (std::vector<int>{0, 1, 1, 3, 3, 3, 3, 3, 3, 3, 4, 5}));
}

TEST(ReadWindow, RoundedStampsDoNotShowTheFrameBefore) {
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

TEST(ReadWindow, SeeksToTheKeyFrameBeforeTheWindow) {
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

TEST(ReadWindow, ManyContainersAndCodecs) {
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

// The whole, decoded and numbered, judges every window of every excerpt: with key frames 12 apart,
// frames stored out of order, and stamps rounded to milliseconds.
TEST(ReadWindow, AnExcerptIsReadAsIfThereWereNoOtherFrames) {
  struct Case {
    const char *container, *codec, *options;
    AVPixelFormat format;
  };
  for (const Case& c : std::vector<Case>{
           {"matroska", "ffv1", "", AV_PIX_FMT_BGR0},
           {"mp4", "libx264rgb", "crf=0,preset=ultrafast", AV_PIX_FMT_BGR0},
           {"mp4", "libx264rgb", "crf=0,preset=medium,bframes=3,b-pyramid=normal", AV_PIX_FMT_BGR0},
           {"matroska", "libx264rgb", "crf=0,x264-params=open-gop=1:bframes=3", AV_PIX_FMT_BGR0}}) {
    if (avcodec_find_encoder_by_name(c.codec) == nullptr) continue;
    constexpr int kFrames = 25;
    const double gap = 1 / 24.0;
    const bool rounds = std::string(c.container) == "matroska";
    std::vector<int64_t> at;
    for (int i = 0; i < kFrames; ++i) at.push_back(rounds ? std::llround(1000 * gap * i) : i);
    const Bytes clip = store(16, 16, at,
                             {.container = c.container,
                              .codec = c.codec,
                              .format = c.format,
                              .time_base = {1, rounds ? 1000 : 24},
                              .options = c.options,
                              .gop = 6},
                             paint_place);
    ASSERT_EQ(numbers(read(clip, {.frames = kFrames, .fps = 24, .height = 16, .width = 16})),
              run_of(0, kFrames))
        << c.options;
    for (int first = 0; first < kFrames; first += 3) {
      for (int behind = first + 2; behind <= kFrames; behind += 5) {
        const Excerpt excerpt{first * gap, behind * gap};
        const MediaInfo info = std::get<MediaInfo>(probe_media(clip, excerpt));
        EXPECT_EQ(info.frames, behind - first) << c.options << first << " " << behind;
        EXPECT_NEAR(info.seconds, (behind - first) * gap, 0.002);
        EXPECT_EQ(std::get<int64_t>(decode_every_frame(clip, excerpt)), behind - first);
        for (const int frames : {1, behind - first, behind - first + 2}) {
          // Centred in what there is; what is too short begins at its first frame and holds its
          // last.
          const int left = std::max(0, (behind - first - frames) / 2);
          std::vector<int> wanted;
          for (int i = 0; i < frames; ++i) wanted.push_back(std::min(first + left + i, behind - 1));
          EXPECT_EQ(
              numbers(read(
                  clip,
                  {.frames = frames, .fps = 24, .height = 16, .width = 16, .excerpt = excerpt})),
              wanted)
              << c.options << " " << first << " " << behind;
        }
      }
    }
  }
}

TEST(ReadWindow, AnExcerptThatTheMediumDoesNotHoldSaysWhy) {
  const Bytes clip = store(16, 16, stamps(9, 125), {}, paint_place);
  const auto reason = [&](const Excerpt& excerpt) {
    const auto found = probe_media(clip, excerpt);
    const auto* failure = std::get_if<ReadFailure>(&found);
    return failure ? failure->reason : "none";
  };
  EXPECT_EQ(reason({0.5, 1.125}), "none");
  EXPECT_EQ(reason({0.5, 1.15}), "none");  // rounded up
  EXPECT_NE(reason({0.5, 1.5}).find("the clip is to end at 1.5 s"), std::string::npos);
  EXPECT_NE(reason({2, 3}).find("the clip is to start at 2 s"), std::string::npos);
  EXPECT_NE(reason({0.26, 0.3}).find("no frame between"), std::string::npos);
  EXPECT_NE(reason({0.2, 0.3}).find("a single frame between"), std::string::npos);
  const Bytes still = store(
      16, 16, stamps(1, 1), {.container = "image2pipe", .codec = "png", .format = AV_PIX_FMT_RGB24},
      [](int, AVFrame& f) { std::memset(f.data[0], 9, size_t(f.linesize[0]) * f.height); });
  const auto found = probe_media(still, {0, 1});
  ASSERT_TRUE(std::holds_alternative<ReadFailure>(found));
  EXPECT_NE(std::get<ReadFailure>(found).reason.find("a still"), std::string::npos);
}

}  // namespace
}  // namespace pendulum
