// Pixels in and out, drawing and normalising around the VAE.
#include "embed/wan_codec.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"

namespace pendulum {
namespace {

constexpr int kWanVersion = 1;  // raise it with every change of a posterior's values
// A GPU wants more work at a time than a core's cache holds.
constexpr int64_t kPixelsOnGpu = 1 << 19;

WanVaeWeights open_weights(const CodecConfig& config) {
  if (!std::filesystem::exists(config.weights)) {
    throw ConfigError(text("codec.weights: ", config.weights, ": there is no such file or folder"));
  }
  return WanVaeWeights::open(config.weights);
}

WanVaeOptions options_of(const CodecConfig& config, const WanVaeConfig& vae) {
  if (config.device == "cuda" && !at::hasCUDA())
    throw ConfigError("codec.device is cuda: this machine or this build has no CUDA");
  if (config.tile % vae.spatial() != 0) {
    throw ConfigError(text("codec.tile is ", config.tile, ": the codec in ", config.weights,
                           " takes multiples of ", vae.spatial()));
  }
  WanVaeOptions options;
  options.tile = config.tile;
  if (config.device == "cpu" || !at::hasCUDA()) return options;
  // The one that the process has made its own; workers' threads begin with the first.
  options.device = c10::impl::VirtualGuardImpl(at::kCUDA).getDevice();
  options.dtype = config.precision == "bf16" ? at::kBFloat16 : at::kFloat;
  options.pixels_at_once = kPixelsOnGpu;
  return options;
}

// (F, H, W, 3) bytes, only read through: ATen has no tensors of const memory.
at::Tensor pixels_of(const Frames& frames) {
  check(frames.rgb.size() == frames.count * frames.frame_bytes(),
        "three bytes a pixel: ", frames.rgb.size());
  return at::from_blob(const_cast<uint8_t*>(frames.rgb.data()),
                       {frames.count, frames.height, frames.width, 3}, at::kByte);
}

// (count, 3, height, width) in [-1, 1].
at::Tensor levels(const at::Tensor& bytes, int64_t first, int64_t count,
                  const FrameRegion& region) {
  return bytes.narrow(0, first, count)
      .narrow(1, region.y, region.height)
      .narrow(2, region.x, region.width)
      .to(at::kFloat)
      .div_(255)
      .mul_(2)
      .sub_(1)
      .permute({0, 3, 1, 2});
}

at::Tensor per_channel(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).to(at::kFloat).view({-1, 1, 1, 1});
}

}  // namespace

WanCodec::WanCodec(const CodecConfig& config) : WanCodec(config, open_weights(config)) {}

WanCodec::WanCodec(const CodecConfig& config, const WanVaeWeights& weights)
    : config_(config),
      vae_config_(weights.config()),
      mean_(per_channel(vae_config_.latents_mean)),
      deviation_(per_channel(vae_config_.latents_std)),
      vae_(weights, options_of(config, vae_config_)) {}

at::Tensor WanCodec::encode(const Frames& frames) const {
  const Shape shape{frames.count, frames.height, frames.width};
  latent_shape(shape);  // throws for what the codec cannot divide
  const at::Tensor bytes = pixels_of(frames);
  return vae_.encode(shape, [&](int64_t first, int64_t count, const FrameRegion& region) {
    return levels(bytes, first, count, region);
  });
}

at::Tensor WanCodec::encode_first(const Frames& first, int frames) const {
  check(first.count == 1, "one frame: ", first.count);
  const Shape shape{frames, first.height, first.width};
  latent_shape(shape);
  const at::Tensor bytes = pixels_of(first);
  const auto pixels = [&](int64_t begin, int64_t count, const FrameRegion& region) {
    at::Tensor part = at::zeros({count, 3, region.height, region.width}, at::kFloat);
    if (begin == 0) part.narrow(0, 0, 1).copy_(levels(bytes, 0, 1, region));
    return part;
  };
  return mean(vae_.encode(shape, pixels));
}

at::Tensor WanCodec::mean(const at::Tensor& posterior) const {
  check(posterior.dim() == 4 && posterior.size(0) == 2 * channels(),
        "mean and log-variance: ", posterior.sizes());
  const at::NoGradGuard no_grad;
  return normalised(posterior.narrow(0, 0, channels()));
}

at::Tensor WanCodec::latent(const at::Tensor& posterior, uint64_t key) const {
  check(posterior.dim() == 4 && posterior.size(0) == 2 * channels(),
        "mean and log-variance: ", posterior.sizes());
  const at::NoGradGuard no_grad;
  at::Tensor z = posterior.narrow(0, 0, channels()).clone();
  if (config_.sample) {
    // Bounds as in diffusers' DiagonalGaussianDistribution.
    const at::Tensor log_variance = posterior.narrow(0, channels(), channels()).clamp(-30, 20);
    at::Tensor noise = at::empty(z.sizes(), at::kFloat);
    fill_normal(noise.mutable_data_ptr<float>(), noise.numel(), key);
    z.add_(noise.mul_((log_variance * 0.5).exp_()));
  }
  return normalised(z);
}

Frames WanCodec::decode(const at::Tensor& latent) const {
  check(latent.dim() == 4 && latent.size(0) == channels() && latent.numel() > 0,
        "a latent of (channels, frames, height, width): ", latent.sizes(), ", channels ",
        channels());
  const at::NoGradGuard no_grad;
  const at::Tensor z = latent.detach().to(at::kCPU, at::kFloat) * deviation_ + mean_;
  Frames frames((static_cast<int>(z.size(1)) - 1) * temporal() + 1,
                static_cast<int>(z.size(2)) * spatial(), static_cast<int>(z.size(3)) * spatial());
  const at::Tensor bytes =
      at::from_blob(frames.rgb.data(), {frames.count, frames.height, frames.width, 3}, at::kByte);
  vae_.decode(z, [&](int64_t first, const FrameRegion& region, const at::Tensor& pixels) {
    const at::Tensor levels = (pixels * 0.5).add_(0.5).mul_(255).clamp_(0, 255).round_();
    bytes.narrow(0, first, pixels.size(0))
        .narrow(1, region.y, region.height)
        .narrow(2, region.x, region.width)
        .copy_(levels.nan_to_num_(0).permute({0, 2, 3, 1}));
  });
  return frames;
}

// What is computed in bf16 differs from what is not.
std::string WanCodec::key() const {
  const bool is_narrow = vae_.dtype() == at::kBFloat16;
  return describe()["key"].get<std::string>() + (is_narrow ? "/bf16" : "");
}

nlohmann::json WanCodec::describe() const {
  // The statistics are not among the weights.
  const nlohmann::json statistics{vae_config_.latents_mean, vae_config_.latents_std};
  return {{"kind", "wan"},
          {"spatial", spatial()},
          {"temporal", temporal()},
          {"channels", channels()},
          {"latents_mean", vae_config_.latents_mean},
          {"latents_std", vae_config_.latents_std},
          {"key", text("wan/", sha256(vae_.content() + statistics.dump()).substr(0, 32), "/v",
                       kWanVersion)}};
}

void WanCodec::write_weights(const std::string& folder) const {
  WanVaeWeights::open(config_.weights).write_diffusers(folder, std::nullopt);
}

}  // namespace pendulum
