// embed/haar and embed/haar_codec: exact inversion, the box mean where levels are dropped, scale,
// order of channels, bad input.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/random.h"
#include "embed/haar_codec.h"
#include "random_frames.h"

namespace pendulum {
namespace {

HaarCodec codec(int spatial, int temporal, int drop) {
  return HaarCodec({"haar", spatial, temporal, drop});
}

// Coefficients from the definition in haar.h, in double precision: signs of one block, one function
// per axis.
double time_weight(int band, int frame, int frames) {
  if (band == 0) return 1;
  const int level =
      static_cast<int>(std::bit_floor(static_cast<unsigned>(band)));  // blocks at this level
  const int span = frames / level, place = band - level;
  if (frame / span != place) return 0;
  return frame % span < span / 2 ? 1 : -1;
}

double space_weight(int band, int y, int x, int size) {
  if (band == 0) return 1;
  int q = 1;
  while (4 * q * q <= band) q *= 2;
  const int orientation = band / (q * q) - 1, row = band % (q * q) / q, column = band % q;
  const int span = size / q;
  if (y / span != row || x / span != column) return 0;
  const double across = x % span < span / 2 ? 1 : -1, down = y % span < span / 2 ? 1 : -1;
  return orientation == 0 ? across : orientation == 1 ? down : across * down;
}

at::Tensor reference(const Frames& f, const HaarLayout& layout) {
  const std::vector<float> gains = haar_gains(layout);
  const int s = layout.spatial, latents = (f.count - 1) / layout.temporal + 1;
  at::Tensor out = at::zeros({layout.channels(), latents, f.height / s, f.width / s}, at::kDouble);
  auto at_out = out.accessor<double, 4>();
  for (int c = 0; c < layout.channels(); ++c) {
    const int colour = c % 3, space = c / 3 % layout.space_bands(),
              time = c / 3 / layout.space_bands();
    for (int t = 0; t < latents; ++t) {
      const int frames = t == 0 ? 1 : layout.temporal,
                first = t == 0 ? 0 : 1 + (t - 1) * layout.temporal;
      if (time >= frames) continue;
      for (int i = 0; i < f.height / s; ++i) {
        for (int j = 0; j < f.width / s; ++j) {
          double sum = 0, size = 0;
          for (int dt = 0; dt < frames; ++dt) {
            for (int y = 0; y < s; ++y) {
              for (int x = 0; x < s; ++x) {
                // A band of the reduced image compares pixels of the whole one just as well.
                const double w = time_weight(time, dt, frames) * space_weight(space, y, x, s);
                sum += w * (*(f.pixel(first + dt, i * s + y, j * s + x) + colour) / 127.5 - 1);
                size += std::abs(w);
              }
            }
          }
          at_out[c][t][i][j] = gains[c] * sum / size;
        }
      }
    }
  }
  return out;
}

TEST(Haar, CoefficientsAreThoseOfTheDefinition) {
  const int shapes[][4] = {{4, 4, 0, 9}, {2, 1, 0, 3}, {8, 2, 1, 5},
                           {1, 4, 0, 5}, {4, 8, 2, 9}, {4, 4, 1, 1}};
  for (const auto& [spatial, temporal, drop, frames] : shapes) {
    const Frames clip = random_frames(frames, 2 * spatial, 3 * spatial, 11);
    const at::Tensor got = codec(spatial, temporal, drop).encode(clip);
    const at::Tensor expected = reference(clip, {spatial, temporal, drop});
    ASSERT_EQ(got.sizes(), expected.sizes());
    // One rounding of the scale and one of the product, of values up to the largest gain.
    const double bound = 3 * std::numeric_limits<float>::epsilon() * 4;
    EXPECT_LE((got.to(at::kDouble) - expected).abs().max().item<double>(), bound)
        << spatial << " " << temporal << " " << drop;
  }
}

TEST(Haar, InversionIsExact) {
  for (const int spatial : {1, 2, 4, 8, 16}) {
    for (const int temporal : {1, 2, 4, 8}) {
      for (const int groups : {0, 1, 3}) {
        const Frames clip =
            random_frames(groups * temporal + 1, spatial * 3, spatial * 5, 7 * spatial + temporal);
        const HaarCodec c = codec(spatial, temporal, 0);
        EXPECT_EQ(c.decode(c.encode(clip)).rgb, clip.rgb) << c.key() << " groups " << groups;
      }
    }
  }
}

// Apart from one factor the squares of latents add up to the squares of pixels.
TEST(Haar, IsOrthonormal) {
  for (const auto& [spatial, temporal] : {std::pair{4, 4}, {8, 2}, {2, 8}}) {
    const Frames clip = random_frames(temporal + 1, 2 * spatial, 3 * spatial, 21);
    const at::Tensor latent = codec(spatial, temporal, 0).encode(clip).to(at::kDouble);
    const double factor = haar_gains({spatial, temporal, 0})[0];
    const auto squares = [&](int first, int count) {
      double sum = 0;
      for (int t = first; t < first + count; ++t) {
        for (size_t i = 0; i < clip.frame_bytes(); ++i)
          sum += std::pow(clip.frame(t)[i] / 127.5 - 1, 2);
      }
      return sum;
    };
    const auto expect = [&](int latent_frame, double pixels, double under) {
      const double found = latent.select(1, latent_frame).square().sum().item<double>();
      EXPECT_NEAR(found * under / (factor * factor), pixels, 1e-5 * pixels);
    };
    expect(0, squares(0, 1), spatial * spatial);
    expect(1, squares(1, temporal), spatial * spatial * temporal);
  }
}

TEST(Haar, DroppedLevelsLeaveTheBoxMean) {
  for (const int drop : {1, 2}) {
    const int n = 1 << drop;
    const Frames clip = random_frames(5, 16, 24, drop);
    const HaarCodec c = codec(4, 4, drop);
    EXPECT_EQ(c.channels(), 3 * (4 / n) * (4 / n) * 4);
    const Frames back = c.decode(c.encode(clip));
    for (int t = 0; t < 5; ++t) {
      for (int y = 0; y < 16; ++y) {
        for (int x = 0; x < 24; ++x) {
          for (int k = 0; k < 3; ++k) {
            double mean = 0;
            for (int i = 0; i < n * n; ++i)
              mean += *(clip.pixel(t, y / n * n + i / n, x / n * n + i % n) + k);
            mean /= n * n;
            // Half a level of rounding, and the few 1e-5 levels that fp32 adds.
            ASSERT_LE(std::abs(*(back.pixel(t, y, x) + k) - mean), 0.5 + 1e-4);
          }
        }
      }
    }
  }
}

TEST(Haar, AStillAndAStillClipShareTheirMeanChannels) {
  const Frames still = random_frames(1, 16, 16, 3);
  Frames clip(9, 16, 16);
  for (int t = 0; t < 9; ++t) std::copy(still.rgb.begin(), still.rgb.end(), clip.frame(t).begin());
  const HaarCodec c = codec(4, 4, 0);
  const at::Tensor one = c.encode(still), many = c.encode(clip);
  EXPECT_EQ(many.size(1), 3);
  for (int t = 0; t < 3; ++t) EXPECT_TRUE(at::equal(many.select(1, t), one.select(1, 0)));

  Frames grey(5, 8, 8);
  std::fill(grey.rgb.begin(), grey.rgb.end(), 204);
  const at::Tensor flat = c.encode(grey);
  const double mean = haar_gains({4, 4, 0})[0] * (204 / 127.5 - 1);
  EXPECT_LE((flat.narrow(0, 0, 3) - mean).abs().max().item<double>(), 4e-7 * mean);
  EXPECT_EQ(flat.narrow(0, 3, c.channels() - 3).abs().max().item<double>(), 0);
}

TEST(Haar, FirstFrameChannelsAreThoseThatCanDiffer) {
  const HaarCodec c = codec(4, 4, 1);
  const std::vector<bool> present = c.first_frame_channels();
  ASSERT_EQ(static_cast<int>(present.size()), c.channels());
  const at::Tensor first = c.encode(random_frames(5, 32, 32, 5)).select(1, 0);
  for (int i = 0; i < c.channels(); ++i) {
    EXPECT_EQ(first[i].abs().max().item<double>() > 0, present[i]) << i;
  }
}

TEST(HaarCodec, DecodesAnythingWithoutHarm) {
  const HaarCodec c = codec(4, 4, 0);
  at::Tensor wild = at::full({c.channels(), 2, 1, 2}, 1e30);
  wild[0].fill_(std::numeric_limits<float>::quiet_NaN());
  wild[1].fill_(-std::numeric_limits<float>::infinity());
  EXPECT_EQ(c.decode(wild).rgb.size(), 5u * 4 * 8 * 3);
  EXPECT_THROW(c.decode(at::zeros({c.channels() + 1, 2, 1, 2})), Error);
  const at::Tensor strided = at::randn({2, 1, 2, c.channels()}).permute({3, 0, 1, 2});
  EXPECT_EQ(c.decode(strided).rgb, c.decode(strided.contiguous()).rgb);
}

TEST(HaarCodec, RefusesWhatItCannotDo) {
  EXPECT_THROW(codec(3, 4, 0), ConfigError);
  EXPECT_THROW(codec(4, -1, 0), ConfigError);
  EXPECT_THROW(codec(4, 4, 3), ConfigError);
  EXPECT_THROW(codec(4, 4, -1), ConfigError);
  EXPECT_THROW(make_codec({"vae", 4, 4, 0}), ConfigError);
  EXPECT_EQ(make_codec({"haar"})->describe(), codec(4, 4, 0).describe());
  const HaarCodec c = codec(4, 4, 0);
  EXPECT_EQ(c.latent_shape({17, 64, 48}), (LatentShape{5, 16, 12}));
  EXPECT_THROW(c.latent_shape({16, 64, 64}), ConfigError);
  EXPECT_THROW(c.latent_shape({17, 66, 64}), ConfigError);
  EXPECT_THROW(c.latent_shape({0, 64, 64}), ConfigError);
  EXPECT_THROW(c.encode(random_frames(4, 8, 8, 1)), ConfigError);
}

TEST(HaarCodec, NamesItself) {
  EXPECT_EQ(codec(4, 4, 0).key(), "haar/s4/t4/d0/v2");
  EXPECT_NE(codec(4, 4, 1).key(), codec(4, 4, 0).key());
  EXPECT_EQ(codec(4, 2, 1).describe()["channels"], 3 * 4 * 2);
}

TEST(HaarCodec, IsFast) {
  const Frames clip = random_frames(17, 64, 64, 1);
  const HaarCodec c = codec(4, 4, 0);
  double encode = 1, decode = 1;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor latent = c.encode(clip);
    const auto middle = std::chrono::steady_clock::now();
    c.decode(latent);
    const auto end = std::chrono::steady_clock::now();
    encode = std::min(encode, std::chrono::duration<double>(middle - start).count());
    decode = std::min(decode, std::chrono::duration<double>(end - middle).count());
  }
  std::cout << "17x64x64: encode " << encode * 1e3 << " ms, decode " << decode * 1e3 << " ms\n";
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__)
  EXPECT_LE(encode, 5e-3);  // about 0.5 ms on a free core; others may share it
#endif
}

}  // namespace
}  // namespace pendulum
