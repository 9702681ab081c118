// Space-time Haar transform of RGB frames: exactly invertible, fixed, block by block.
#pragma once
#include <cstdint>
#include <vector>

namespace pendulum {

// What becomes of one group of `temporal` frames and a block of spatial x spatial pixels: one
// latent pixel.
struct HaarLayout {
  int spatial = 4;   // pixels per latent pixel, a power of two
  int temporal = 4;  // frames per latent frame after the first, a power of two
  int drop = 0;      // finest spatial levels left out, at most log2(spatial)

  int kept() const { return spatial >> drop; }  // block size once the finest levels are gone
  int space_bands() const { return kept() * kept(); }
  int channels() const { return 3 * space_bands() * temporal; }
};

// Channels are numbered (time band, space band, colour), colour fastest; bands run from coarse to
// fine.
//   Time band 0 is the mean of the group, 1 half the difference of its two halves, 2 and 3 the same
//   for either half, ... Space band 0 is the mean of the block. Level q = 1, 2, 4, ... follows from
//   band q^2 on: left minus right, above minus below, and the diagonal difference, each with q x q
//   places in the block, row by row.
// A coefficient is (sum of one half - sum of the other) / all pixels under it, for pixel values in
// [-1, 1], so it lies in [-1, 1] and the mean of a still clip equals that of a single frame; it is
// then multiplied by its channel's gain.

// Gain of every channel; see haar.cpp for the formula and where it comes from.
std::vector<float> haar_gains(const HaarLayout& layout);

// rgb (k temporal + 1, height, width, 3) -> latent (channels, k + 1, height / spatial, width /
// spatial). The first latent frame is the first image alone; its channels of time bands above 0 are
// zero. Sides are multiples of `spatial`.
void haar_encode(float* latent, const uint8_t* rgb, int latent_frames, int height, int width,
                 const HaarLayout& layout);

// The inverse, rounded and clamped to 0..255 (NaN gives 0). height and width in pixels.
void haar_decode(uint8_t* rgb, const float* latent, int latent_frames, int height, int width,
                 const HaarLayout& layout);

}  // namespace pendulum
