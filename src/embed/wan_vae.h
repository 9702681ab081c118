// Wan's causal 3D variational autoencoder: frames to a posterior, and latents to frames, in bounded
// memory.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/shape.h"
#include "embed/wan_vae_weights.h"

namespace pendulum {

// Pixels y .. y + height of a frame, x .. x + width.
struct FrameRegion {
  int64_t y = 0, x = 0, height = 0, width = 0;
};
// Frames first .. first + count of a clip, (count, 3, height, width) in [-1, 1].
using PixelSource = std::function<at::Tensor(int64_t first, int64_t count, const FrameRegion&)>;
// Gets frames from `first` on, likewise, on the CPU in fp32; any order of regions.
using PixelSink =
    std::function<void(int64_t first, const FrameRegion& region, const at::Tensor& pixels)>;

// How the work is divided. Results agree to the rounding of sums.
struct WanVaeOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  // Pixels that a layer is given at a time, at least one frame, and that a convolution computes at
  // a time, at least one row of one frame. Enough to keep the cores busy; more costs memory.
  int64_t pixels_at_once = 1 << 13;
  // Frames with a longer side are divided into regions with this edge (a multiple of the codec's
  // factor), each computed with all around it that reaches into it; 0: whole.
  int64_t tile = 0;
};

// Equal to diffusers' AutoencoderKLWan. Thread-safe: every call has its own memory. Each half is
// brought into memory by its first use: a run that trains needs no decoder.
class WanVae {
 public:
  // Reads all weights once, for content(), and keeps none. DataError where one is not finite.
  WanVae(WanVaeWeights weights, const WanVaeOptions& options);

  // (2 z_dim, F, h, w) fp32 on the CPU: mean, then log-variance. `shape` is temporal k + 1 frames
  // with sides that are multiples of `spatial`.
  at::Tensor encode(const Shape& shape, const PixelSource& pixels) const;
  // z (z_dim, F, h, w), not normalised. Values may lie outside [-1, 1].
  // Both: DataError where the weights on disk are no longer those that content() speaks of.
  void decode(const at::Tensor& z, const PixelSink& pixels) const;

  // A hash of the weights, whatever names and type they are stored under.
  const std::string& content() const { return content_; }
  at::ScalarType dtype() const { return options_.dtype; }

 private:
  using Emit = std::function<void(const at::Tensor&)>;
  void flow(const FrameLayers& layers, at::Tensor frames, StreamMemory& memory, const Emit& emit,
            size_t first = 0) const;
  void encode_region(const Shape& shape, const PixelSource& pixels, const FrameRegion& region,
                     const Emit& features) const;
  void decode_region(const at::Tensor& features, const FrameRegion& cells, StreamMemory& memory,
                     const Emit& pixels) const;
  void return_free_memory(int64_t pixels) const;
  std::vector<FrameRegion> regions(int64_t height, int64_t width) const;
  at::Tensor load(const WanVaeParameter& parameter) const;
  const WanVaeEncoder& encoder() const;
  const WanVaeDecoder& decoder() const;

  WanVaeWeights weights_;
  WanVaeConfig config_;
  WanVaeOptions options_;
  std::map<std::string, std::string> hashes_;  // of each parameter, by its name
  std::string content_;
  mutable std::mutex loading_;
  mutable std::optional<WanVaeEncoder> encoder_;
  mutable std::optional<WanVaeDecoder> decoder_;
};

}  // namespace pendulum
