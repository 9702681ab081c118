// All sums are of whole numbers times powers of two below 2^24: exact in fp32 until the gain is
// applied, so the result does not depend on the order of the sums.
#include "embed/haar.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

namespace pendulum {
namespace {

// Within a group of frames the transform is orthonormal but for a factor: a squared error of
// latents is one of pixels. Amplified details would make noise hide outlines as late as areas, and
// a model then settles edges before it knows where a thing is. Means of blocks have a standard
// deviation of 0.4 to 0.7 (two natural films and drawn shapes, 32x32 and 64x64 at 8 frames/s),
// here 1.6 to 2.8, and details down to a hundredth of that: all channels of the quickstart's stills
// together have a mean square of about 1.8.
constexpr float kMeanGain = 4;

// The root of the share of a block's pixels and frames that lie under a coefficient.
float gain_of(int time_band, int space_band) {
  // Space bands q^2 .. 4 q^2 - 1 have q x q places in a block, time bands p .. 2 p - 1 have p.
  const int q = 1 << (std::bit_width(static_cast<unsigned>(std::max(space_band, 1))) - 1) / 2;
  const auto p = std::bit_floor(static_cast<unsigned>(std::max(time_band, 1)));
  return kMeanGain / (static_cast<float>(q) * std::sqrt(static_cast<float>(p)));
}

// Where one plane's coefficients go (or come from): channel c's latent frame starts at base + c *
// stride.
struct BandPlanes {
  float* base;
  ptrdiff_t stride;    // between channels
  const float* scale;  // per channel: gain / 127.5
  int first_channel;   // of space band 0
  float* plane(int band) const { return base + channel(band) * stride; }
  int channel(int band) const { return first_channel + 3 * band; }
};

// Mean over 2^drop x 2^drop pixels of an interleaved image, into three planes of (height, width) >>
// drop.
void load_planes(float* planes, const uint8_t* rgb, int height, int width, int drop) {
  const int size = 1 << drop, rows = height >> drop, columns = width >> drop;
  const ptrdiff_t plane = static_cast<ptrdiff_t>(rows) * columns;
  const float share = 1.0f / static_cast<float>(size * size);
  for (int y = 0; y < rows; ++y) {
    const uint8_t* line = rgb + static_cast<ptrdiff_t>(y) * size * width * 3;
    float* out = planes + static_cast<ptrdiff_t>(y) * columns;
    for (int x = 0; x < columns; ++x) {
      int sum[3] = {0, 0, 0};
      for (int dy = 0; dy < size; ++dy) {
        const uint8_t* pixel = line + (static_cast<ptrdiff_t>(dy) * width + x * size) * 3;
        for (int dx = 0; dx < size; ++dx, pixel += 3) {
          for (int c = 0; c < 3; ++c) sum[c] += pixel[c];
        }
      }
      for (int c = 0; c < 3; ++c) out[c * plane + x] = static_cast<float>(sum[c]) * share;
    }
  }
}

void store_planes(uint8_t* rgb, const float* planes, int height, int width, int drop) {
  const ptrdiff_t columns = width >> drop, plane = columns * (height >> drop);
  for (int y = 0; y < height; ++y) {
    uint8_t* out = rgb + static_cast<ptrdiff_t>(y) * width * 3;
    const float* line = planes + (y >> drop) * columns;
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const float value = line[c * plane + (x >> drop)];
        // Written so that NaN fails the first comparison: converting it would be undefined.
        const float bounded = value > 0 ? (value < 255 ? value : 255.0f) : 0.0f;
        out[x * 3 + c] = static_cast<uint8_t>(bounded + 0.5f);
      }
    }
  }
}

// frames x count numbers -> bands x count, coarse to fine, in place; `scratch` is as large.
void split_time(float* values, float* scratch, int frames, ptrdiff_t count) {
  for (int n = frames; n > 1; n /= 2) {
    std::copy_n(values, n * count, scratch);
    for (int i = 0; i < n / 2; ++i) {
      const float *a = scratch + 2 * i * count, *b = a + count;
      float *mean = values + i * count, *detail = values + (n / 2 + i) * count;
      for (ptrdiff_t j = 0; j < count; ++j) {
        mean[j] = (a[j] + b[j]) * 0.5f;
        detail[j] = (a[j] - b[j]) * 0.5f;
      }
    }
  }
}

void join_time(float* values, float* scratch, int frames, ptrdiff_t count) {
  for (int n = 2; n <= frames; n *= 2) {
    std::copy_n(values, n * count, scratch);
    for (int i = 0; i < n / 2; ++i) {
      const float *mean = scratch + i * count, *detail = scratch + (n / 2 + i) * count;
      float *a = values + 2 * i * count, *b = a + count;
      for (ptrdiff_t j = 0; j < count; ++j) {
        a[j] = mean[j] + detail[j];
        b[j] = mean[j] - detail[j];
      }
    }
  }
}

// One plane of (rows, columns) -> its space bands; overwrites the plane. `line` holds 3 rows.
void split_space(float* plane, float* line, int rows, int columns, int kept,
                 const BandPlanes& bands, float offset) {
  for (int q = kept / 2; q >= 1; q /= 2) {
    const int half_rows = rows / 2, half = columns / 2;
    float *across = line, *down = line + half, *diagonal = line + 2 * half;
    for (int y = 0; y < half_rows; ++y) {
      const float *top = plane + static_cast<ptrdiff_t>(2 * y) * columns, *bottom = top + columns;
      float* mean =
          plane + static_cast<ptrdiff_t>(y) * half;  // never ahead of what is still to be read
      for (int x = 0; x < half; ++x) {
        const float a = top[2 * x], b = top[2 * x + 1], c = bottom[2 * x], d = bottom[2 * x + 1];
        mean[x] = ((a + b) + (c + d)) * 0.25f;
        across[x] = ((a - b) + (c - d)) * 0.25f;
        down[x] = ((a + b) - (c + d)) * 0.25f;
        diagonal[x] = ((a - b) - (c - d)) * 0.25f;
      }
      for (int o = 0; o < 3; ++o) {
        for (int place = 0; place < q; ++place) {
          const int band = (o + 1) * q * q + (y % q) * q + place;
          const float scale = bands.scale[bands.channel(band)];
          float* out = bands.plane(band) + static_cast<ptrdiff_t>(y / q) * (half / q);
          const float* in = line + o * half + place;
          for (int x = 0; x < half / q; ++x) out[x] = in[x * q] * scale;
        }
      }
    }
    rows = half_rows, columns = half;
  }
  float* out = bands.plane(0);
  const float scale = bands.scale[bands.channel(0)];
  for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(rows) * columns; ++i)
    out[i] = (plane[i] - offset) * scale;
}

// The inverse; rows and columns are those of the latent. `scratch` is as large as the finished
// plane.
void join_space(float* plane, float* scratch, int rows, int columns, int kept,
                const BandPlanes& bands, float offset) {
  const float* in = bands.plane(0);
  const float unit = 1 / bands.scale[bands.channel(0)];
  for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(rows) * columns; ++i)
    plane[i] = in[i] * unit + offset;
  for (int q = 1; q < kept; q *= 2) {
    std::copy_n(plane, static_cast<ptrdiff_t>(rows) * columns, scratch);
    for (int y = 0; y < rows; ++y) {
      float *top = plane + static_cast<ptrdiff_t>(2 * y) * 2 * columns, *bottom = top + 2 * columns;
      for (int place = 0; place < q; ++place) {
        const float* detail[3];
        float back[3];
        for (int o = 0; o < 3; ++o) {
          const int band = (o + 1) * q * q + (y % q) * q + place;
          detail[o] = bands.plane(band) + static_cast<ptrdiff_t>(y / q) * (columns / q);
          back[o] = 1 / bands.scale[bands.channel(band)];
        }
        for (int j = 0; j < columns / q; ++j) {
          const int x = j * q + place;
          const float mean = scratch[static_cast<ptrdiff_t>(y) * columns + x];
          const float across = detail[0][j] * back[0], down = detail[1][j] * back[1];
          const float diagonal = detail[2][j] * back[2];
          top[2 * x] = (mean + across) + (down + diagonal);
          top[2 * x + 1] = (mean - across) + (down - diagonal);
          bottom[2 * x] = (mean + across) - (down + diagonal);
          bottom[2 * x + 1] = (mean - across) - (down - diagonal);
        }
      }
    }
    rows *= 2, columns *= 2;
  }
}

constexpr float kHalfRange = 127.5f;  // pixel values 0..255 stand for [-1, 1]

std::vector<float> scales(const HaarLayout& layout) {
  std::vector<float> out = haar_gains(layout);
  for (float& value : out) value /= kHalfRange;
  return out;
}

}  // namespace

std::vector<float> haar_gains(const HaarLayout& layout) {
  std::vector<float> gains;
  for (int t = 0; t < layout.temporal; ++t) {
    for (int s = 0; s < layout.space_bands(); ++s) gains.insert(gains.end(), 3, gain_of(t, s));
  }
  return gains;
}

void haar_encode(float* latent, const uint8_t* rgb, int latent_frames, int height, int width,
                 const HaarLayout& layout) {
  const int rows = height >> layout.drop, columns = width >> layout.drop;
  const ptrdiff_t plane = static_cast<ptrdiff_t>(rows) * columns,
                  frame_bytes = ptrdiff_t{3} * height * width;
  const ptrdiff_t cell = static_cast<ptrdiff_t>(height / layout.spatial) * (width / layout.spatial);
  const ptrdiff_t channel_stride = latent_frames * cell;
  const std::vector<float> scale = scales(layout);
  std::vector<float> values(layout.temporal * 3 * plane), scratch(values.size());
  for (int frame = 0; frame < latent_frames; ++frame) {
    const int pixels_frames = frame == 0 ? 1 : layout.temporal;
    for (int i = 0; i < pixels_frames; ++i, rgb += frame_bytes) {
      load_planes(values.data() + i * 3 * plane, rgb, height, width, layout.drop);
    }
    split_time(values.data(), scratch.data(), pixels_frames, 3 * plane);
    for (int i = 0; i < pixels_frames * 3; ++i) {
      const int time_band = i / 3;
      const BandPlanes bands{latent + frame * cell, channel_stride, scale.data(),
                             time_band * 3 * layout.space_bands() + i % 3};
      split_space(values.data() + i * plane, scratch.data(), rows, columns, layout.kept(), bands,
                  time_band == 0 ? kHalfRange : 0);
    }
    for (int c = pixels_frames * 3 * layout.space_bands(); c < layout.channels(); ++c) {
      std::fill_n(latent + c * channel_stride + frame * cell, cell, 0.0f);
    }
  }
}

void haar_decode(uint8_t* rgb, const float* latent, int latent_frames, int height, int width,
                 const HaarLayout& layout) {
  const ptrdiff_t plane = static_cast<ptrdiff_t>(height >> layout.drop) * (width >> layout.drop);
  const int rows = height / layout.spatial, columns = width / layout.spatial;
  const ptrdiff_t cell = static_cast<ptrdiff_t>(rows) * columns;
  const std::vector<float> scale = scales(layout);
  std::vector<float> values(layout.temporal * 3 * plane), scratch(values.size());
  for (int frame = 0; frame < latent_frames; ++frame) {
    const int pixels_frames = frame == 0 ? 1 : layout.temporal;
    for (int i = 0; i < pixels_frames * 3; ++i) {
      const int time_band = i / 3;
      // Only read through: encode and decode share the description of where the bands are.
      const BandPlanes bands{const_cast<float*>(latent) + frame * cell, latent_frames * cell,
                             scale.data(), time_band * 3 * layout.space_bands() + i % 3};
      join_space(values.data() + i * plane, scratch.data(), rows, columns, layout.kept(), bands,
                 time_band == 0 ? kHalfRange : 0);
    }
    join_time(values.data(), scratch.data(), pixels_frames, 3 * plane);
    for (int i = 0; i < pixels_frames; ++i, rgb += ptrdiff_t{3} * height * width) {
      store_planes(rgb, values.data() + i * 3 * plane, height, width, layout.drop);
    }
  }
}

}  // namespace pendulum
