// The layers of Wan's VAE, through which frames flow in order, any number at a time.
//
// Frames are (T, C, H, W) in the memory order T, H, W, C. A layer is const and serves any number of
// streams; what it must remember of a stream stands in that stream's memory. Outputs do not depend
// on how the frames are divided over calls, nor on the strips in which a large one is computed,
// except for the rounding of sums.
// After diffusers' autoencoder_kl_wan.py, which divides them into the first frame and groups of 4.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

namespace pendulum {

inline constexpr auto kFramesLast = at::MemoryFormat::ChannelsLast;

// What the layers remember of one stream, by their places.
class StreamMemory {
 public:
  StreamMemory(int places, int64_t pixels_at_once)
      : places_(places), pixels_at_once_(pixels_at_once) {}

  // Undefined: no frame has come yet.
  at::Tensor& operator[](int place) { return places_[place]; }
  // Of frames (n, C, H, W), how many rows a convolution is given at a time: all of them, or strips
  // of about the same height, at least one row. `growth`: pixels put out for each.
  int64_t strip_height(const at::Tensor& frames, int64_t growth = 1) const;

 private:
  std::vector<at::Tensor> places_;
  int64_t pixels_at_once_;
};

class FrameLayer {
 public:
  virtual ~FrameLayer() = default;
  // Frames (n, C, H, W), n >= 1, to those that can be told now, perhaps none.
  virtual at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const = 0;
  // Pixels put out for each that comes in, at most.
  virtual int growth() const { return 1; }
};
using FrameLayers = std::vector<std::unique_ptr<FrameLayer>>;

// A convolution over 3 frames and 3 x 3 pixels, that of a frame and the two before it.
struct CausalConv {
  at::Tensor weight, bias;  // (out, in, 3, 3, 3) or (out, in, 3, 1, 1), channels last
  int place = 0;

  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const;
  // Of silu(norm(frames)).
  at::Tensor push(const at::Tensor& frames, const at::Tensor& gamma, StreamMemory& memory) const;
  // Likewise, perhaps written over `frames`, whose number of channels must stay.
  at::Tensor push_over(at::Tensor frames, const at::Tensor& gamma, StreamMemory& memory) const;

 private:
  at::Tensor convolve(at::Tensor frames, const at::Tensor& gamma, at::Tensor out,
                      StreamMemory& memory) const;
};

struct FirstConv final : FrameLayer {
  CausalConv conv;
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
};

// Norm, SiLU, convolution.
struct LastConv final : FrameLayer {
  at::Tensor gamma;
  CausalConv conv;
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
};

struct ResidualBlock final : FrameLayer {
  at::Tensor norm1, norm2;
  CausalConv conv1, conv2;
  at::Tensor shortcut_weight, shortcut_bias;  // where the number of channels changes
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
};

// Self-attention among the pixels of each frame, one head.
struct FrameAttention final : FrameLayer {
  at::Tensor gamma, qkv_weight, qkv_bias, out_weight, out_bias;
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
};

// Half as many pixels to a side; with time weights half as many frames after the first.
struct Downsample final : FrameLayer {
  at::Tensor weight, bias, time_weight, time_bias;
  int place = 0;
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
};

// The reverse. In time, every frame after the first becomes two.
struct Upsample final : FrameLayer {
  at::Tensor weight, bias;
  CausalConv time_conv;  // undefined weights: space alone
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
  int growth() const override { return time_conv.weight.defined() ? 8 : 4; }

 private:
  at::Tensor enlarged(const at::Tensor& images, const StreamMemory& memory) const;
};

// A level of Wan 2.2's encoder: blocks and downsampling, with means over pixels, frames and groups
// of channels as a shortcut around them.
struct ResidualDown final : FrameLayer {
  FrameLayers layers;
  int in = 0, out = 0, factor_t = 1, factor_s = 1;
  int place = 0;
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
};

// A level of Wan 2.2's decoder, with copies of pixels as a shortcut.
struct ResidualUp final : FrameLayer {
  FrameLayers layers;
  int in = 0, out = 0, factor_t = 1;
  int place = 0;
  bool has_shortcut = false;
  at::Tensor push(const at::Tensor& frames, StreamMemory& memory) const override;
  int growth() const override { return has_shortcut ? 4 * factor_t : 1; }
};

}  // namespace pendulum
