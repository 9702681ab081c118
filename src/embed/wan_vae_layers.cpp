// Convolutions run over clips in channels-last order, which oneDNN and cuDNN take as they are.
#include "embed/wan_vae_layers.h"

#include <ATen/ATen.h>

#include <cmath>

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
                           const at::Tensor& bias, int64_t stride, int64_t padding) {
  return at::conv2d(images, weight, bias, stride, padding).contiguous(kFramesLast);
}

at::Tensor push_all(const FrameLayers& layers, at::Tensor frames, StreamMemory& memory) {
  for (const auto& layer : layers) {
    if (frames.size(0) == 0) break;
    frames = layer->push(frames, memory);
  }
  return frames;
}

}  // namespace

// Frames with the two before them in front, which are zeros at the beginning; the frames themselves
// are still to be written.
at::Tensor CausalConv::room(const at::Tensor& frames, StreamMemory& memory) const {
  at::Tensor joined = empty_frames(frames, frames.size(0) + kBefore);
  at::Tensor before = joined.narrow(0, 0, kBefore);
  if (memory[place].defined()) {
    before.copy_(memory[place]);
  } else {
    before.zero_();
  }
  return joined;
}

at::Tensor CausalConv::convolve(const at::Tensor& joined, StreamMemory& memory) const {
  if (!memory[place].defined()) memory[place] = empty_frames(joined, kBefore);
  memory[place].copy_(joined.narrow(0, joined.size(0) - kBefore, kBefore));
  const int64_t margin = weight.size(3) / 2;
  return frames_of_clip(at::conv3d(clip_of(joined), weight, bias, 1, {0, margin, margin}));
}

at::Tensor CausalConv::push(const at::Tensor& frames, StreamMemory& memory) const {
  at::Tensor joined = room(frames, memory);
  joined.narrow(0, kBefore, frames.size(0)).copy_(frames);
  return convolve(joined, memory);
}

at::Tensor CausalConv::push(at::Tensor frames, const at::Tensor& gamma,
                            StreamMemory& memory) const {
  const at::Tensor joined = room(frames, memory);
  rms_silu(rows_of_channels(joined.narrow(0, kBefore, frames.size(0))), rows_of_channels(frames),
           gamma);
  frames.reset();  // perhaps the last to hold them, and a convolution wants the memory
  return convolve(joined, memory);
}

at::Tensor FirstConv::push(const at::Tensor& frames, StreamMemory& memory) const {
  return conv.push(frames, memory);
}

at::Tensor LastConv::push(const at::Tensor& frames, StreamMemory& memory) const {
  return conv.push(frames, gamma, memory);
}

at::Tensor ResidualBlock::push(const at::Tensor& frames, StreamMemory& memory) const {
  at::Tensor out = conv2.push(conv1.push(frames, norm1, memory), norm2, memory);
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
  const at::Tensor larger = at::upsample_nearest2d(images.contiguous(kFramesLast),
                                                   {2 * images.size(2), 2 * images.size(3)});
  return convolve_images(larger, weight, bias, 1, 1);
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
