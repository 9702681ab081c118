// Convolutions run over clips in channels-last order, which oneDNN and cuDNN take as they are.
#include "embed/wan_vae_layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "ops/rms_silu.h"

namespace pendulum {
namespace {

constexpr int64_t kBefore = 2;  // frames before its own that a causal convolution sees

// (T, C, H, W) -> (T, H, W, C), contiguous, and back: the same memory.
at::Tensor rows_of_channels(const at::Tensor& frames) { return frames.permute({0, 2, 3, 1}); }
at::Tensor frames_of(const at::Tensor& rows) { return rows.permute({0, 3, 1, 2}); }

// (T, C, H, W) as the clip (1, C, T, H, W) that a convolution in time wants, and back.
at::Tensor clip_of(const at::Tensor& frames) {
  return rows_of_channels(frames).unsqueeze(0).permute({0, 4, 1, 2, 3});
}
at::Tensor frames_of_clip(const at::Tensor& clip) {
  return clip.squeeze(0).transpose(0, 1).contiguous(kFramesLast);
}

at::Tensor empty_frames(const at::Tensor& like, int64_t count) {
  return at::empty({count, like.size(1), like.size(2), like.size(3)}, like.options(), kFramesLast);
}

at::Tensor convolve_images(const at::Tensor& images, const at::Tensor& weight,
                           const at::Tensor& bias, int64_t stride, at::IntArrayRef padding) {
  return at::conv2d(images, weight, bias, stride, padding).contiguous(kFramesLast);
}

// conv3d gives clips of few channels and rows to a convolution of ATen's own, which unfolds them:
// 27 times their size. A strip of a large frame is one of those.
at::Tensor convolve_strip(const at::Tensor& clip, const at::Tensor& weight, const at::Tensor& bias,
                          at::IntArrayRef padding) {
  constexpr std::array<int64_t, 3> kOnes{1, 1, 1};
  if (clip.is_cpu() && clip.scalar_type() == at::kFloat && at::hasMKLDNN())
    return at::mkldnn_convolution(clip, weight, bias, padding, kOnes, kOnes, 1);
  return at::conv3d(clip, weight, bias, 1, padding);
}

// Writes rows of frames, those of the two frames before them in front, where a convolution reads
// them, and remembers the last two in place of those.
void fill(const at::Tensor& joined, const at::Tensor& frames, const at::Tensor& gamma,
          const at::Tensor& before) {
  joined.narrow(0, 0, kBefore).copy_(before);
  const at::Tensor own = joined.narrow(0, kBefore, frames.size(0));
  if (gamma.defined()) {
    rms_silu(rows_of_channels(own), rows_of_channels(frames), gamma);
  } else {
    own.copy_(frames);
  }
  before.copy_(joined.narrow(0, frames.size(0), kBefore));
}

at::Tensor push_all(const FrameLayers& layers, at::Tensor frames, StreamMemory& memory) {
  for (const auto& layer : layers) {
    if (frames.size(0) == 0) break;
    frames = layer->push(frames, memory);
  }
  return frames;
}

}  // namespace

int64_t StreamMemory::strip_height(const at::Tensor& frames, int64_t growth) const {
  const int64_t height = frames.size(2), pixels = frames.size(0) * frames.size(3) * growth;
  const int64_t most = std::clamp<int64_t>(pixels_at_once_ / pixels, 1, height);
  const int64_t strips = (height + most - 1) / most;
  return (height + strips - 1) / strips;
}

at::Tensor CausalConv::push(const at::Tensor& frames, StreamMemory& memory) const {
  return convolve(frames, {}, {}, memory);
}

at::Tensor CausalConv::push(const at::Tensor& frames, const at::Tensor& gamma,
                            StreamMemory& memory) const {
  return convolve(frames, gamma, {}, memory);
}

at::Tensor CausalConv::push_over(at::Tensor frames, const at::Tensor& gamma,
                                 StreamMemory& memory) const {
  at::Tensor out = frames;
  return convolve(std::move(frames), gamma, std::move(out), memory);
}

// Strip by strip from above. A strip's input holds the two frames before in front, and the rows
// around it; those that it shares with the strip above it has from there: so every row is read
// before a strip of the output or of what is remembered can be written over it. `out`: undefined,
// or where a result that comes in strips is put together.
at::Tensor CausalConv::convolve(at::Tensor frames, const at::Tensor& gamma, at::Tensor out,
                                StreamMemory& memory) const {
  const int64_t count = frames.size(0), height = frames.size(2);
  const int64_t step = memory.strip_height(frames), margin = weight.size(3) / 2;
  const int64_t around = step < height ? margin : 0;  // a frame in one piece needs no rows of zeros
  at::Tensor& before = memory[place];
  if (!before.defined()) before = empty_frames(frames, kBefore).zero_();
  at::Tensor above;  // the rows that a strip shares with the next
  for (int64_t y = 0; y < height; y += step) {
    const int64_t rows = std::min(step, height - y), first = y == 0 ? 0 : y + around,
                  end = std::min(height, y + rows + around);
    const at::Tensor strip =
        at::empty({count + kBefore, frames.size(1), rows + 2 * around, frames.size(3)},
                  frames.options(), kFramesLast);
    if (y > 0) {
      strip.narrow(2, 0, 2 * around).copy_(above);
    } else {
      strip.narrow(2, 0, around).zero_();
    }
    strip.narrow(2, end - y + around, y + rows + around - end).zero_();
    fill(strip.narrow(2, first - y + around, end - first), frames.narrow(2, first, end - first),
         gamma, before.narrow(2, first, end - first));
    if (step == height) {
      frames.reset(), out.reset();  // the convolution wants the memory
      return frames_of_clip(at::conv3d(clip_of(strip), weight, bias, 1, {0, margin, margin}));
    }
    above = strip.narrow(2, rows, 2 * around).clone();
    const at::Tensor found = frames_of_clip(convolve_strip(
        clip_of(strip), weight, bias, std::array<int64_t, 3>{0, margin - around, margin}));
    if (!out.defined()) {
      out = at::empty({count, found.size(1), height, found.size(3)}, found.options(), kFramesLast);
    }
    out.narrow(2, y, rows).copy_(found);
  }
  return out;
}

at::Tensor FirstConv::push(const at::Tensor& frames, StreamMemory& memory) const {
  return conv.push(frames, memory);
}

at::Tensor LastConv::push(const at::Tensor& frames, StreamMemory& memory) const {
  return conv.push(frames, gamma, memory);
}

at::Tensor ResidualBlock::push(const at::Tensor& frames, StreamMemory& memory) const {
  at::Tensor out = conv2.push_over(conv1.push(frames, norm1, memory), norm2, memory);
  if (!shortcut_weight.defined()) return out.add_(frames);
  const at::Tensor skipped = at::linear(rows_of_channels(frames), shortcut_weight, shortcut_bias);
  return out.add_(frames_of(skipped));
}

at::Tensor FrameAttention::push(const at::Tensor& frames, StreamMemory&) const {
  const at::Tensor rows = rows_of_channels(frames);  // (T, H, W, C)
  const int64_t channels = rows.size(3);
  const at::Tensor wide = rows.to(at::kFloat);
  const at::Tensor length = wide.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
  const at::Tensor normed =
      (wide / length).to(rows.scalar_type()) * std::sqrt(static_cast<double>(channels)) * gamma;
  const auto qkv = at::linear(normed.reshape({rows.size(0), 1, -1, channels}), qkv_weight, qkv_bias)
                       .chunk(3, -1);  // (T, 1, H W, C)
  const at::Tensor seen = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]);
  at::Tensor out = at::linear(seen, out_weight, out_bias).view(rows.sizes());
  return frames_of(out.add_(rows));
}

at::Tensor Downsample::push(const at::Tensor& frames, StreamMemory& memory) const {
  // A window begins at its pixel, so that the margin is right and below.
  const at::Tensor images =
      convolve_images(at::constant_pad_nd(frames, {0, 1, 0, 1}), weight, bias, 2, 0);
  if (!time_weight.defined()) return images;
  // Frames 2k, 2k + 1, 2k + 2 become frame k + 1; the very first stays as it is.
  const bool is_first = !memory[place].defined();
  const at::Tensor joined = is_first ? images : at::cat({memory[place], images});
  const int64_t made = (joined.size(0) - 1) / 2;
  memory[place] = joined.narrow(0, 2 * made, joined.size(0) - 2 * made).clone();
  std::vector<at::Tensor> out;
  if (is_first) out.push_back(images.narrow(0, 0, 1));
  if (made > 0) {
    const at::Tensor clip = clip_of(joined.narrow(0, 0, 2 * made + 1));
    out.push_back(frames_of_clip(at::conv3d(clip, time_weight, time_bias, {2, 1, 1})));
  }
  if (out.empty()) return images.narrow(0, 0, 0);
  return out.size() == 1 ? out[0] : at::cat(out);
}

at::Tensor Upsample::push(const at::Tensor& frames, StreamMemory& memory) const {
  at::Tensor images = frames;
  if (time_conv.weight.defined()) {
    std::vector<at::Tensor> parts;
    int64_t first = 0;
    if (!memory[time_conv.place].defined()) {
      // The very first frame stays one, and the frames after it do not see it.
      parts.push_back(frames.narrow(0, 0, 1));
      memory[time_conv.place] = at::zeros_like(empty_frames(frames, kBefore));
      first = 1;
    }
    const int64_t rest = frames.size(0) - first;
    if (rest > 0) {
      const at::Tensor pairs =
          rows_of_channels(time_conv.push(frames.narrow(0, first, rest), memory));
      const int64_t height = frames.size(2), width = frames.size(3), channels = frames.size(1);
      parts.push_back(frames_of(pairs.view({rest, height, width, 2, channels})
                                    .permute({0, 3, 1, 2, 4})
                                    .reshape({2 * rest, height, width, channels})));
    }
    images = parts.size() == 1 ? parts[0] : at::cat(parts);
  }
  return enlarged(images.contiguous(kFramesLast), memory);
}

// Strip by strip, for four times the pixels of all channels would be the largest tensor of all.
at::Tensor Upsample::enlarged(const at::Tensor& images, const StreamMemory& memory) const {
  const int64_t height = images.size(2), width = images.size(3);
  const int64_t step = memory.strip_height(images, 4);
  at::Tensor out = at::empty({images.size(0), weight.size(0), 2 * height, 2 * width},
                             images.options(), kFramesLast);
  for (int64_t y = 0; y < height; y += step) {
    const int64_t rows = std::min(step, height - y), first = std::max<int64_t>(0, y - 1),
                  end = std::min(height, y + rows + 1);
    const at::Tensor larger = at::upsample_nearest2d(images.narrow(2, first, end - first),
                                                     {2 * (end - first), 2 * width});
    // One row around the strip: of the two that a neighbouring row has become, or zeros.
    const at::Tensor framed =
        at::constant_pad_nd(larger, {0, 0, first < y ? -1 : 1, end > y + rows ? -1 : 1});
    out.narrow(2, 2 * y, 2 * rows).copy_(convolve_images(framed, weight, bias, 1, {0, 1}));
  }
  return out;
}

at::Tensor ResidualDown::push(const at::Tensor& frames, StreamMemory& memory) const {
  at::Tensor grouped = frames;
  if (factor_t == 2) {
    // The first frame's partner is a frame of zeros.
    const at::Tensor before =
        memory[place].defined() ? memory[place] : at::zeros_like(frames.narrow(0, 0, 1));
    const at::Tensor joined = at::cat({before, frames});
    const int64_t whole = joined.size(0) / 2 * 2;
    memory[place] = joined.narrow(0, whole, joined.size(0) - whole).clone();
    grouped = joined.narrow(0, 0, whole);
  }
  at::Tensor result = push_all(layers, frames, memory);
  if (result.size(0) == 0) return result;
  const int64_t count = grouped.size(0) / factor_t, height = frames.size(2) / factor_s,
                width = frames.size(3) / factor_s;
  const at::Tensor means =
      grouped.view({count, factor_t, in, height, factor_s, width, factor_s})
          .permute(
              {0, 3, 5, 2, 1, 4, 6})  // (count, height, width, in, factor_t, factor_s, factor_s)
          .reshape({count, height, width, out, -1})
          .mean(-1);
  return result.add_(frames_of(means));
}

at::Tensor ResidualUp::push(const at::Tensor& frames, StreamMemory& memory) const {
  at::Tensor result = push_all(layers, frames, memory);
  if (!has_shortcut) return result;
  const int64_t count = frames.size(0), height = frames.size(2), width = frames.size(3);
  const int64_t copies = int64_t{4} * factor_t * out / in;
  at::Tensor copied = rows_of_channels(frames)
                          .repeat_interleave(copies, -1)
                          .view({count, height, width, out, factor_t, 2, 2})
                          .permute({0, 4, 1, 5, 2, 6, 3})
                          .reshape({count * factor_t, 2 * height, 2 * width, out});
  if (!memory[place].defined()) {
    memory[place] = at::empty({0}, frames.options());
    copied = copied.narrow(0, factor_t - 1, copied.size(0) - factor_t + 1);
  }
  return result.add_(frames_of(copied));
}

}  // namespace pendulum
