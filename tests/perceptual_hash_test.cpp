// Perceptual hashes: near copies stay near, other pictures are far, flat ones have none.
#include "data/perceptual_hash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <numbers>

#include "core/random.h"
#include "data/media_writer.h"
#include "rights/deny_list.h"
#include "stored_media.h"

namespace pendulum {
namespace {

// Smooth random pictures, of 40 cosines, that natural pictures resemble more than noise does.
Frames picture(uint64_t seed, int height, int width, double brightness = 128) {
  Frames out(1, height, width);
  const auto unit = [&](uint64_t i) {
    return static_cast<double>(draw(Purpose::generate, seed, i) >> 11) * 0x1p-53;
  };
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      double value = brightness;
      for (uint64_t k = 0; k < 40; ++k) {
        const double u = std::floor(9 * unit(4 * k)), v = std::floor(9 * unit(4 * k + 1));
        value += 60 / (1 + u + v) * (unit(4 * k + 2) - 0.5) *
                 std::cos(std::numbers::pi * (u * (y + 0.5) / height + v * (x + 0.5) / width) +
                          unit(4 * k + 3));
      }
      for (int c = 0; c < 3; ++c)
        out.pixel(0, y, x)[c] = static_cast<uint8_t>(std::clamp(value + 4 * c, 0.0, 255.0));
    }
  }
  return out;
}

uint64_t hash_of(const Bytes& bytes) {
  const auto info = probe_media(bytes);
  const auto hashes = perceptual_hashes(bytes, std::get<MediaInfo>(info));
  return std::get<std::vector<uint64_t>>(hashes).at(0);
}

// The definition written down once more, by full double sums over the 32 x 32 pixels themselves.
TEST(PerceptualHash, EqualsItsDefinition) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const Frames p = picture(seed, 32, 32);
    std::vector<double> coefficients;
    for (int u = 1; u <= 8; ++u) {
      for (int v = 1; v <= 8; ++v) {
        double sum = 0;
        for (int y = 0; y < 32; ++y) {
          for (int x = 0; x < 32; ++x) {
            const uint8_t* rgb = p.pixel(0, y, x);
            sum += (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) *
                   std::cos(std::numbers::pi * u * (y + 0.5) / 32) *
                   std::cos(std::numbers::pi * v * (x + 0.5) / 32) / 16;
          }
        }
        coefficients.push_back(sum);
      }
    }
    std::vector<double> sorted = coefficients;
    std::sort(sorted.begin(), sorted.end());
    const double median = (sorted[31] + sorted[32]) / 2;
    uint64_t expected = 0;
    for (const double c : coefficients) expected = expected << 1 | (c > median);
    EXPECT_EQ(perceptual_hash(p, 0), expected) << seed;
    EXPECT_EQ(std::popcount(expected), 32);  // half lie above the median
  }
}

TEST(PerceptualHash, NearCopiesStayWithinTheRadiusAndOthersDoNot) {
  std::vector<uint64_t> originals;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const uint64_t original = hash_of(encode_png(picture(seed, 120, 160)));
    const std::pair<const char*, uint64_t> copies[] = {
        {"jpeg", hash_of(encode_jpeg(picture(seed, 120, 160)))},
        {"twice the size", hash_of(encode_png(picture(seed, 240, 320)))},
        {"odd size", hash_of(encode_png(picture(seed, 83, 111)))},
        {"brighter", hash_of(encode_png(picture(seed, 120, 160, 140)))}};
    for (const auto& [how, hash] : copies)
      EXPECT_LE(std::popcount(original ^ hash), kDefaultHashRadius) << seed << " " << how;
    originals.push_back(original);
  }
  // Of two unrelated pictures each bit differs with probability near 1/2: 64 fair bits are within
  // 12 of each other once in 10^7 pairs, here there are 66.
  for (size_t i = 0; i < originals.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_GT(std::popcount(originals[i] ^ originals[j]), 12);
  }
}

TEST(PerceptualHash, APictureWithoutStructureHasNone) {
  Frames flat(1, 40, 60);
  std::fill(flat.rgb.begin(), flat.rgb.end(), uint8_t{90});
  EXPECT_FALSE(perceptual_hash(flat, 0));
  for (size_t i = 0; i < flat.rgb.size(); i += 7) ++flat.rgb[i];  // a grey level of noise
  EXPECT_FALSE(perceptual_hash(flat, 0));
}

TEST(PerceptualHash, ClipsHaveTheirFirstAndMiddleFrames) {
  Frames clip(9, 64, 96);
  for (int t = 0; t < 9; ++t) {
    const Frames still = picture(t < 3 ? 1 : 2, 64, 96);
    std::copy(still.rgb.begin(), still.rgb.end(), clip.frame(t).begin());
  }
  const std::string path = testing::TempDir() + "phash_" + std::to_string(::getpid()) + ".mp4";
  write_video(path, clip, 8);
  const Bytes bytes = bytes_of(path);
  std::filesystem::remove(path);
  const auto info = probe_media(bytes);
  const auto found = perceptual_hashes(bytes, std::get<MediaInfo>(info));
  const auto& hashes = std::get<std::vector<uint64_t>>(found);
  ASSERT_EQ(hashes.size(), 2u);
  EXPECT_LE(std::popcount(hashes[0] ^ *perceptual_hash(clip, 0)), kDefaultHashRadius);
  EXPECT_LE(std::popcount(hashes[1] ^ *perceptual_hash(clip, 4)), kDefaultHashRadius);
  EXPECT_GT(std::popcount(hashes[0] ^ hashes[1]), 12);
}

}  // namespace
}  // namespace pendulum
