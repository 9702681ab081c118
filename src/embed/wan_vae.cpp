// Runs the VAE's layers over clips: a few frames at a time, and in tiles where that is asked for.
#include "embed/wan_vae.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <malloc.h>

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

// Pixels of an input frame on which a feature depends, beyond those that it stands for, in one
// direction: a convolution of 3 x 3 reaches one pixel of its level, a residual block has two. A
// multiple of the codec's factor, so that tiles are sampled like the whole.
int64_t encoder_reach(const WanVaeConfig& config) {
  int64_t reach = 1, pixel = 1;
  for (size_t level = 0; level < config.dim_mult.size(); ++level, pixel *= 2) {
    reach += pixel * 2 * config.num_res_blocks;
    if (level + 1 < config.dim_mult.size()) reach += pixel * 2;
  }
  const int64_t factor = config.spatial();
  return (reach * config.patch + factor - 1) / factor * factor;
}

// The same of the decoder, in latent pixels: features that reach into a pixel put out.
int64_t decoder_reach(const WanVaeConfig& config) {
  int64_t pixel = int64_t{1} << (config.dim_mult.size() - 1), reach = 1;
  const int64_t cell = pixel;
  for (; pixel >= 1; pixel /= 2) {
    reach += pixel * 2 * (config.num_res_blocks + 1) + pixel / 2;
  }
  return (reach + cell - 1) / cell;
}

FrameRegion widened(const FrameRegion& region, int64_t margin, int64_t height, int64_t width) {
  const int64_t y = std::max<int64_t>(0, region.y - margin),
                x = std::max<int64_t>(0, region.x - margin);
  return {y, x, std::min(height, region.y + region.height + margin) - y,
          std::min(width, region.x + region.width + margin) - x};
}

FrameRegion scaled(const FrameRegion& r, int64_t by) {
  return {r.y * by, r.x * by, r.height * by, r.width * by};
}

FrameRegion shrunk(const FrameRegion& r, int64_t by) {
  return {r.y / by, r.x / by, r.height / by, r.width / by};
}

// Of frames (n, C, h, w) that show `outer`, the part `inner`.
at::Tensor part(const at::Tensor& frames, const FrameRegion& outer, const FrameRegion& inner) {
  return frames.narrow(2, inner.y - outer.y, inner.height)
      .narrow(3, inner.x - outer.x, inner.width);
}

// (n, 3, h p, w p) -> (n, 3 p p, h, w), column within the patch before row, and back.
at::Tensor patchify(const at::Tensor& pixels, int64_t p) {
  if (p == 1) return pixels;
  const int64_t n = pixels.size(0), h = pixels.size(2) / p, w = pixels.size(3) / p;
  return pixels.reshape({n, 3, h, p, w, p})
      .permute({0, 1, 5, 3, 2, 4})
      .reshape({n, 3 * p * p, h, w});
}
at::Tensor unpatchify(const at::Tensor& frames, int64_t p) {
  if (p == 1) return frames;
  const int64_t n = frames.size(0), h = frames.size(2), w = frames.size(3);
  return frames.reshape({n, 3, p, p, h, w})
      .permute({0, 1, 4, 3, 5, 2})
      .reshape({n, 3, h * p, w * p});
}

// A convolution of one pixel.
at::Tensor multiply(const at::Tensor& frames, const at::Tensor& weight, const at::Tensor& bias) {
  return at::linear(frames.permute({0, 2, 3, 1}), weight, bias).permute({0, 3, 1, 2});
}

// As convolutions want them: channels last.
at::Tensor laid_out(const at::Tensor& weight) {
  if (weight.dim() == 5) return weight.contiguous(at::MemoryFormat::ChannelsLast3d);
  return weight.dim() == 4 && weight.size(3) > 1 ? weight.contiguous(kFramesLast) : weight;
}

std::string hash_of(const at::Tensor& values) {
  return sha256(std::span(static_cast<const uint8_t*>(values.const_data_ptr()),
                          static_cast<size_t>(values.nbytes())));
}

}  // namespace

WanVae::WanVae(WanVaeWeights weights, const WanVaeOptions& options)
    : weights_(std::move(weights)), config_(weights_.config()), options_(options) {
  std::string hashes;
  for (const WanVaeParameter& parameter : weights_.parameters()) {
    const at::Tensor values = weights_.load(parameter).to(at::kFloat);
    if (!at::isfinite(values).all().item<bool>())
      throw DataError(text(parameter.name, ": the codec's weights are not all finite"));
    hashes += parameter.name + (hashes_[parameter.name] = hash_of(values));
  }
  content_ = sha256(hashes);
}

at::Tensor WanVae::load(const WanVaeParameter& parameter) const {
  const at::Tensor values = weights_.load(parameter).to(at::kFloat);
  if (hash_of(values) != hashes_.at(parameter.name)) {
    throw DataError(text(parameter.name, ": the codec's weights have changed on disk since the ",
                         "program read them; latents of both must not be mixed"));
  }
  return laid_out(values).to(options_.device, options_.dtype);
}

const WanVaeEncoder& WanVae::encoder() const {
  const std::lock_guard lock(loading_);
  if (!encoder_) {
    const at::NoGradGuard no_grad;
    encoder_ =
        build_wan_encoder(config_, [this](const auto& parameter) { return load(parameter); });
  }
  return *encoder_;
}

const WanVaeDecoder& WanVae::decoder() const {
  const std::lock_guard lock(loading_);
  if (!decoder_) {
    const at::NoGradGuard no_grad;
    decoder_ =
        build_wan_decoder(config_, [this](const auto& parameter) { return load(parameter); });
  }
  return *decoder_;
}

std::vector<FrameRegion> WanVae::regions(int64_t height, int64_t width) const {
  const int64_t edge = options_.tile > 0 ? options_.tile : std::max(height, width);
  std::vector<FrameRegion> out;
  for (int64_t y = 0; y < height; y += edge) {
    for (int64_t x = 0; x < width; x += edge)
      out.push_back({y, x, std::min(edge, height - y), std::min(edge, width - x)});
  }
  return out;
}

// Depth first: what a layer puts out has gone through all layers behind it before it gets more
// frames, and pieces become fewer frames where frames become larger. So no layer's output is ever
// in memory for the whole clip.
void WanVae::flow(const FrameLayers& layers, at::Tensor frames, StreamMemory& memory,
                  const Emit& emit, size_t first) const {
  for (; first < layers.size(); ++first) {
    const int64_t pixels = frames.size(2) * frames.size(3) * layers[first]->growth();
    const int64_t step = std::max<int64_t>(1, options_.pixels_at_once / pixels);
    const int64_t count = frames.size(0);
    for (int64_t begin = 0; count > step && begin < count; begin += step) {
      flow(layers, frames.narrow(0, begin, std::min(step, count - begin)), memory, emit, first);
    }
    if (count > step) return;
    frames = layers[first]->push(frames, memory);
    if (frames.size(0) == 0) return;
  }
  emit(frames);
}

// After a frame of so many pixels. What its tensors leave free on the heap lies between those that
// stay, in pieces that the next frame's do not always fit: kept, it grows to a fifth of the whole.
// Smaller frames leave less than asking the system for fresh pages is worth.
void WanVae::return_free_memory(int64_t pixels) const {
  if (options_.device.is_cpu() && pixels > options_.pixels_at_once) ::malloc_trim(0);
}

// Features of one region, a few frames at a time.
void WanVae::encode_region(const Shape& shape, const PixelSource& pixels, const FrameRegion& region,
                           const Emit& features) const {
  const int64_t factor = config_.spatial();
  const FrameRegion outer = widened(region, encoder_reach(config_), shape.height, shape.width);
  const FrameRegion cells = shrunk(region, factor), outer_cells = shrunk(outer, factor);
  const int64_t area = outer.height * outer.width / (config_.patch * config_.patch);
  const int64_t step = std::max<int64_t>(1, options_.pixels_at_once / area);
  StreamMemory memory(encoder().places, options_.pixels_at_once);
  for (int64_t frame = 0; frame < shape.frames; frame += step) {
    const int64_t count = std::min<int64_t>(step, shape.frames - frame);
    at::Tensor given = patchify(pixels(frame, count, outer), config_.patch)
                           .to(options_.device, options_.dtype)
                           .contiguous(kFramesLast);
    flow(encoder().start, std::move(given), memory,
         [&](const at::Tensor& found) { features(part(found, outer_cells, cells)); });
  }
}

at::Tensor WanVae::encode(const Shape& shape, const PixelSource& pixels) const {
  const at::NoGradGuard no_grad;
  const int64_t factor = config_.spatial(), temporal = config_.temporal();
  check(shape.frames >= 1 && (shape.frames - 1) % temporal == 0 && shape.height % factor == 0 &&
            shape.width % factor == 0,
        "a shape that the codec divides: ", shape.name());
  const int64_t frames = (shape.frames - 1) / temporal + 1, height = shape.height / factor,
                width = shape.width / factor;
  const WanVaeEncoder& half = encoder();
  at::Tensor posterior = at::empty({2 * config_.z_dim, frames, height, width}, at::kFloat);
  int64_t done = 0;
  StreamMemory memory(half.places, options_.pixels_at_once);
  const Emit finish = [&](const at::Tensor& last) {
    const at::Tensor moments = multiply(last, half.weight, half.bias);
    posterior.narrow(1, done, moments.size(0)).copy_(moments.transpose(0, 1));
    done += moments.size(0);
    return_free_memory(shape.height * shape.width);
  };
  const std::vector<FrameRegion> parts = regions(shape.height, shape.width);
  if (parts.size() == 1) {
    encode_region(shape, pixels, parts[0],
                  [&](const at::Tensor& features) { flow(half.end, features, memory, finish); });
  } else {
    at::Tensor all;  // features of the whole clip, of latent size
    for (const FrameRegion& region : parts) {
      int64_t frame = 0;
      encode_region(shape, pixels, region, [&](const at::Tensor& features) {
        if (!all.defined()) {
          all =
              at::empty({frames, features.size(1), height, width}, features.options(), kFramesLast);
        }
        all.narrow(0, frame, features.size(0))
            .narrow(2, region.y / factor, features.size(2))
            .narrow(3, region.x / factor, features.size(3))
            .copy_(features);
        frame += features.size(0);
      });
    }
    flow(half.end, std::move(all), memory, finish);
  }
  check(done == frames, "every latent frame was told: ", done, " of ", frames);
  return posterior;
}

// Pixels of one region of cells, whose features lie in `features` with all around it.
void WanVae::decode_region(const at::Tensor& features, const FrameRegion& cells,
                           StreamMemory& memory, const Emit& pixels) const {
  const int64_t factor = config_.spatial();
  const FrameRegion outer =
      widened(cells, decoder_reach(config_), features.size(2), features.size(3));
  const at::Tensor given = part(features, {0, 0, features.size(2), features.size(3)}, outer);
  flow(decoder().end, given.contiguous(kFramesLast), memory, [&](const at::Tensor& found) {
    const at::Tensor whole = unpatchify(found, config_.patch);
    pixels(part(whole, scaled(outer, factor), scaled(cells, factor)));
  });
}

void WanVae::decode(const at::Tensor& z, const PixelSink& pixels) const {
  const at::NoGradGuard no_grad;
  check(z.dim() == 4 && z.size(0) == config_.z_dim && z.numel() > 0,
        "a latent of (channels, frames, height, width): ", z.sizes());
  const int64_t factor = config_.spatial();
  const WanVaeDecoder& half = decoder();
  const at::Tensor frames = z.transpose(0, 1)
                                .to(options_.device, options_.dtype)
                                .contiguous(kFramesLast);  // (F, C, h, w)
  const at::Tensor start = multiply(frames, half.weight, half.bias).contiguous(kFramesLast);
  const auto sink = [&](const FrameRegion& cells, int64_t& frame) {
    return [&, region = scaled(cells, factor)](const at::Tensor& found) {
      pixels(frame, region, found.to(at::kCPU, at::kFloat));
      frame += found.size(0);
      return_free_memory(region.height * region.width);
    };
  };
  std::vector<FrameRegion> parts = regions(z.size(2) * factor, z.size(3) * factor);
  for (FrameRegion& region : parts) region = shrunk(region, factor);
  StreamMemory memory(half.places, options_.pixels_at_once);
  if (parts.size() == 1) {
    StreamMemory after(half.places, options_.pixels_at_once);
    int64_t frame = 0;
    flow(half.start, start, memory, [&](const at::Tensor& features) {
      decode_region(features, parts[0], after, sink(parts[0], frame));
    });
    return;
  }
  std::vector<at::Tensor> all;
  flow(half.start, start, memory, [&](const at::Tensor& features) { all.push_back(features); });
  const at::Tensor features = at::cat(all);
  all.clear();
  for (const FrameRegion& cells : parts) {
    StreamMemory after(half.places, options_.pixels_at_once);
    int64_t frame = 0;
    decode_region(features, cells, after, sink(cells, frame));
  }
}

}  // namespace pendulum
