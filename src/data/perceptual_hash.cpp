// The DCT hash, by plain sums: 2 x 32 x 32 x 8 products a picture.
#include "data/perceptual_hash.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr int kSide = 32;               // of the picture that is transformed
constexpr int kTaken = 8;               // frequencies 1..8
constexpr int kRead = 64;               // pixels of the shorter side that is read
constexpr double kLeast = kSide / 2.0;  // the coefficient of a cosine of one grey level's amplitude

using Picture = std::array<double, kSide * kSide>;

// Luma (BT.601) averaged over the pixels, and parts of pixels, that each cell covers.
Picture reduce(const Frames& frames, int t) {
  std::vector<double> rows(static_cast<size_t>(frames.height) * kSide);  // (H, 32)
  const auto cover = [](int cells, int size, int i, const auto& add) {
    const double scale = static_cast<double>(size) / cells;
    const double begin = i * scale, end = (i + 1) * scale;
    for (int p = static_cast<int>(begin); p < size && p < end; ++p)
      add(p, (std::min(end, p + 1.0) - std::max(begin, static_cast<double>(p))) / scale);
  };
  for (int y = 0; y < frames.height; ++y) {
    for (int x = 0; x < kSide; ++x) {
      double& cell = rows[static_cast<size_t>(y) * kSide + x];
      cover(kSide, frames.width, x, [&](int p, double share) {
        const uint8_t* rgb = frames.pixel(t, y, p);
        cell += share * (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]);
      });
    }
  }
  Picture out{};
  for (int y = 0; y < kSide; ++y) {
    cover(kSide, frames.height, y, [&](int p, double share) {
      for (int x = 0; x < kSide; ++x)
        out[y * kSide + x] += share * rows[static_cast<size_t>(p) * kSide + x];
    });
  }
  return out;
}

std::array<double, kTaken * kTaken> low_frequencies(const Picture& picture) {
  std::array<double, kTaken * kSide> wave{};  // (8, 32)
  for (int k = 0; k < kTaken; ++k) {
    for (int x = 0; x < kSide; ++x)
      wave[k * kSide + x] =
          std::sqrt(2.0 / kSide) * std::cos(std::numbers::pi * (x + 0.5) * (k + 1) / kSide);
  }
  std::array<double, kTaken * kTaken> out{};
  for (int u = 0; u < kTaken; ++u) {
    std::array<double, kSide> columns{};
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) columns[x] += wave[u * kSide + y] * picture[y * kSide + x];
    }
    for (int v = 0; v < kTaken; ++v) {
      for (int x = 0; x < kSide; ++x) out[u * kTaken + v] += wave[v * kSide + x] * columns[x];
    }
  }
  return out;
}

// At least kRead pixels a side, in the picture's own proportions: nothing is cropped.
ClipRequest reading_size(const MediaInfo& info) {
  const double scale = static_cast<double>(kRead) / std::min(info.width, info.height);
  const auto side = [&](int pixels) {
    return std::clamp(static_cast<int>(std::lround(pixels * scale)), kRead, 16 * kRead);
  };
  return {1, 1, side(info.height), side(info.width)};
}

}  // namespace

std::optional<uint64_t> perceptual_hash(const Frames& frames, int t) {
  check(t >= 0 && t < frames.count && frames.height > 0 && frames.width > 0, "a frame to look at");
  const auto found = low_frequencies(reduce(frames, t));
  auto sorted = found;
  std::sort(sorted.begin(), sorted.end());
  if (!(std::max(-sorted.front(), sorted.back()) >= kLeast)) return std::nullopt;
  const double median = (sorted[31] + sorted[32]) / 2;
  uint64_t hash = 0;
  for (const double coefficient : found) hash = hash << 1 | (coefficient > median);
  return hash;
}

std::variant<std::vector<uint64_t>, ReadFailure> perceptual_hashes(std::span<const uint8_t> bytes,
                                                                   const MediaInfo& info) {
  const ClipRequest request = reading_size(info);
  std::vector<uint64_t> out;
  for (const bool is_middle : {false, true}) {
    if (is_middle && info.kind == MediaKind::still) break;
    auto read = is_middle ? read_clip(bytes, request)
                          : read_first_frame(bytes, request.height, request.width);
    if (auto* failure = std::get_if<ReadFailure>(&read)) return std::move(*failure);
    if (const auto hash = perceptual_hash(std::get<Frames>(read), 0)) out.push_back(*hash);
  }
  return out;
}

}  // namespace pendulum
