// One walk over the network, for its names and for its layers: neither can forget what the other
// has.
#include "embed/wan_vae_parts.h"

#include <ATen/ATen.h>

#include <tuple>
#include <utility>

#include "core/error.h"

namespace pendulum {
namespace {

// A module under both names.
struct Place {
  std::string name, original;
  Place operator/(const Place& inner) const {
    return {name + "." + inner.name, original + "." + inner.original};
  }
};
Place both(const std::string& name) { return {name, name}; }

class Builder {
 public:
  Builder(const WanVaeConfig& config, const WanVaeWeightSource& weight)
      : config_(config), weight_(weight) {}

  WanVaeEncoder encoder() {
    WanVaeEncoder parts;
    const int dim = down(parts.start);
    middle(parts.end, both("encoder"), dim);
    last(parts.end, both("encoder"), dim, 2 * config_.z_dim);
    std::tie(parts.weight, parts.bias) =
        product({"quant_conv", "conv1"}, 2 * config_.z_dim, 2 * config_.z_dim, 3);
    parts.places = places_;
    return parts;
  }
  WanVaeDecoder decoder() {
    WanVaeDecoder parts;
    std::tie(parts.weight, parts.bias) =
        product({"post_quant_conv", "conv2"}, config_.z_dim, config_.z_dim, 3);
    const int dim = config_.decoder_base_dim * config_.dim_mult.back();
    first(parts.start, both("decoder"), config_.z_dim, dim);
    middle(parts.start, both("decoder"), dim);
    up(parts.end, dim);
    parts.places = places_;
    return parts;
  }

 private:
  at::Tensor get(const Place& place, std::vector<int64_t> shape) const {
    return weight_({place.name, place.original, std::move(shape)});
  }
  at::Tensor gamma(const Place& place, int dim, bool in_time) const {
    std::vector<int64_t> shape{dim, 1, 1};
    if (in_time) shape.push_back(1);
    const at::Tensor found = get(place, shape);
    return found.defined() ? found.view({dim}) : found;
  }
  std::pair<at::Tensor, at::Tensor> weights(const Place& at, int out,
                                            const std::vector<int64_t>& rest) const {
    std::vector<int64_t> shape{out};
    shape.insert(shape.end(), rest.begin(), rest.end());
    at::Tensor weight = get({at.name + ".weight", at.original + ".weight"}, shape);
    return {weight, get({at.name + ".bias", at.original + ".bias"}, {out})};
  }
  // A convolution of one pixel is a product: (out, in).
  std::pair<at::Tensor, at::Tensor> product(const Place& at, int in, int out, int axes) const {
    std::vector<int64_t> rest{in};
    rest.resize(1 + axes, 1);
    auto [weight, bias] = weights(at, out, rest);
    return {weight.defined() ? weight.reshape({out, in}) : weight, bias};
  }
  CausalConv causal(const Place& at, int in, int out, int edge) {
    const auto [weight, bias] = weights(at, out, {in, 3, edge, edge});
    return {weight, bias, places_++};
  }

  std::unique_ptr<FrameLayer> residual(const Place& at, int in, int out) {
    auto block = std::make_unique<ResidualBlock>();
    block->norm1 = gamma(at / Place{"norm1.gamma", "residual.0.gamma"}, in, true);
    block->conv1 = causal(at / Place{"conv1", "residual.2"}, in, out, 3);
    block->norm2 = gamma(at / Place{"norm2.gamma", "residual.3.gamma"}, out, true);
    block->conv2 = causal(at / Place{"conv2", "residual.6"}, out, out, 3);
    if (in != out) {
      std::tie(block->shortcut_weight, block->shortcut_bias) =
          product(at / Place{"conv_shortcut", "shortcut"}, in, out, 3);
    }
    return block;
  }
  std::unique_ptr<FrameLayer> downsample(const Place& at, int dim, bool in_time) {
    auto layer = std::make_unique<Downsample>();
    std::tie(layer->weight, layer->bias) = weights(at / both("resample.1"), dim, {dim, 3, 3});
    if (in_time) {
      std::tie(layer->time_weight, layer->time_bias) =
          weights(at / both("time_conv"), dim, {dim, 3, 1, 1});
    }
    layer->place = places_++;
    return layer;
  }
  std::unique_ptr<FrameLayer> upsample(const Place& at, int in, int out, bool in_time) {
    auto layer = std::make_unique<Upsample>();
    std::tie(layer->weight, layer->bias) = weights(at / both("resample.1"), out, {in, 3, 3});
    if (in_time) layer->time_conv = causal(at / both("time_conv"), in, 2 * in, 1);
    return layer;
  }
  void middle(FrameLayers& layers, const Place& at, int dim) {
    layers.push_back(residual(at / Place{"mid_block.resnets.0", "middle.0"}, dim, dim));
    const Place inner = at / Place{"mid_block.attentions.0", "middle.1"};
    auto attention = std::make_unique<FrameAttention>();
    attention->gamma = gamma(inner / both("norm.gamma"), dim, false);
    std::tie(attention->qkv_weight, attention->qkv_bias) =
        product(inner / both("to_qkv"), dim, 3 * dim, 2);
    std::tie(attention->out_weight, attention->out_bias) =
        product(inner / both("proj"), dim, dim, 2);
    layers.push_back(std::move(attention));
    layers.push_back(residual(at / Place{"mid_block.resnets.1", "middle.2"}, dim, dim));
  }
  void last(FrameLayers& layers, const Place& at, int in, int out) {
    auto layer = std::make_unique<LastConv>();
    layer->gamma = gamma(at / Place{"norm_out.gamma", "head.0.gamma"}, in, true);
    layer->conv = causal(at / Place{"conv_out", "head.2"}, in, out, 3);
    layers.push_back(std::move(layer));
  }
  void first(FrameLayers& layers, const Place& at, int in, int out) {
    auto layer = std::make_unique<FirstConv>();
    layer->conv = causal(at / Place{"conv_in", "conv1"}, in, out, 3);
    layers.push_back(std::move(layer));
  }

  // The levels of the encoder. Returns the channels of the last.
  int down(FrameLayers& layers) {
    const Place at = both("encoder");
    int dim = config_.base_dim;
    first(layers, at, config_.channels(), dim);
    const int levels = static_cast<int>(config_.dim_mult.size());
    int flat = 0;  // Wan 2.1 numbers blocks and resamplings through
    for (int level = 0; level < levels; ++level) {
      const int out = config_.base_dim * config_.dim_mult[level];
      const bool is_last = level == levels - 1;
      const bool in_time = !is_last && config_.temporal_downsample[level];
      if (config_.is_residual) {
        layers.push_back(residual_down(level, dim, out, !is_last, in_time));
      } else {
        const Place inner = at / Place{"down_blocks", "downsamples"};
        for (int block = 0; block < config_.num_res_blocks; ++block, ++flat)
          layers.push_back(residual(inner / both(text(flat)), block == 0 ? dim : out, out));
        if (!is_last) layers.push_back(downsample(inner / both(text(flat++)), out, in_time));
      }
      dim = out;
    }
    return dim;
  }
  std::unique_ptr<FrameLayer> residual_down(int level, int in, int out, bool in_space,
                                            bool in_time) {
    const Place at{text("encoder.down_blocks.", level), text("encoder.downsamples.", level)};
    auto down = std::make_unique<ResidualDown>();
    down->in = in, down->out = out;
    down->factor_t = in_time ? 2 : 1, down->factor_s = in_space ? 2 : 1;
    down->place = places_++;
    const int blocks = config_.num_res_blocks;
    for (int block = 0; block < blocks; ++block) {
      const Place inner{text("resnets.", block), text("downsamples.", block)};
      down->layers.push_back(residual(at / inner, block == 0 ? in : out, out));
    }
    if (in_space) {
      const Place inner{"downsampler", text("downsamples.", blocks)};
      down->layers.push_back(downsample(at / inner, out, in_time));
    }
    return down;
  }

  // The levels of the decoder, from `dim` channels to pixels.
  void up(FrameLayers& layers, int dim) {
    const int levels = static_cast<int>(config_.dim_mult.size());
    int flat = 0;
    for (int level = 0; level < levels; ++level) {
      const int out = config_.decoder_base_dim * config_.dim_mult[levels - 1 - level];
      const bool is_last = level == levels - 1;
      const bool in_time = !is_last && config_.temporal_downsample[levels - 2 - level];
      if (config_.is_residual) {
        layers.push_back(residual_up(level, dim, out, !is_last, in_time));
        dim = out;
        continue;
      }
      const std::string ours = text("decoder.up_blocks.", level);
      for (int block = 0; block <= config_.num_res_blocks; ++block, ++flat) {
        const Place inner{text(ours, ".resnets.", block), text("decoder.upsamples.", flat)};
        layers.push_back(residual(inner, block == 0 ? dim : out, out));
      }
      dim = out;
      if (is_last) continue;
      const Place inner{ours + ".upsamplers.0", text("decoder.upsamples.", flat++)};
      layers.push_back(upsample(inner, out, out / 2, in_time));
      dim = out / 2;
    }
    last(layers, both("decoder"), dim, config_.channels());
  }
  std::unique_ptr<FrameLayer> residual_up(int level, int in, int out, bool in_space, bool in_time) {
    const Place at{text("decoder.up_blocks.", level), text("decoder.upsamples.", level)};
    auto up = std::make_unique<ResidualUp>();
    up->in = in, up->out = out;
    up->factor_t = in_time ? 2 : 1;
    up->has_shortcut = in_space;
    up->place = places_++;
    const int blocks = config_.num_res_blocks + 1;
    for (int block = 0; block < blocks; ++block) {
      const Place inner{text("resnets.", block), text("upsamples.", block)};
      up->layers.push_back(residual(at / inner, block == 0 ? in : out, out));
    }
    if (in_space) {
      const Place inner{"upsampler", text("upsamples.", blocks)};
      up->layers.push_back(upsample(at / inner, out, out, in_time));
    }
    return up;
  }

  const WanVaeConfig& config_;
  const WanVaeWeightSource& weight_;
  int places_ = 0;
};

}  // namespace

WanVaeEncoder build_wan_encoder(const WanVaeConfig& config, const WanVaeWeightSource& weight) {
  return Builder(config, weight).encoder();
}

WanVaeDecoder build_wan_decoder(const WanVaeConfig& config, const WanVaeWeightSource& weight) {
  return Builder(config, weight).decoder();
}

std::vector<WanVaeParameter> wan_vae_parameters(const WanVaeConfig& config) {
  std::vector<WanVaeParameter> parameters;
  const WanVaeWeightSource note = [&](const WanVaeParameter& parameter) {
    parameters.push_back(parameter);
    return at::Tensor();
  };
  build_wan_encoder(config, note);
  build_wan_decoder(config, note);
  return parameters;
}

}  // namespace pendulum
