// Broken, foreign and oversized media: a reason each, never a crash.
#include "stored_media.h"

#include "core/random.h"
#include "data/scene.h"

namespace pendulum {
namespace {

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
