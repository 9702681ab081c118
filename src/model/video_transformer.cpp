// The forward pass of the video transformer, from ops/.
#include "model/video_transformer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "attention/distributed_attention.h"
#include "attention/sharded_sequence.h"
#include "core/error.h"
#include "ops/attention.h"
#include "ops/bias_gelu.h"
#include "ops/gated_residual.h"
#include "ops/norm_modulate.h"
#include "ops/projection.h"

namespace pendulum {

// Legend: B samples, N tokens (this rank's), L text tokens, S image states, D model width, H heads,
// d = D / H.
struct VideoTransformer::Conditions {
  at::Tensor time;        // (B, D) or (B, N, D)
  at::Tensor modulation;  // (B, 6, D) or (B, N, 6, D)
  at::Tensor states;      // (B, S + L, D): the image's, then the text's
};

// Where the tokens of a forward pass lie: all here, or a part of them.
struct VideoTransformer::Sequence {
  SequenceGroup* group;  // null: all here
  int64_t tokens;        // of the whole
  int64_t text_length;
  RotaryTables rotary;  // of those that are here

  at::Tensor own(const at::Tensor& whole, int64_t dim) const {
    return group ? own_tokens(whole, *group, dim) : whole;
  }
  at::Tensor all(const at::Tensor& x) const { return group ? all_tokens(x, *group, tokens) : x; }
  // Self-attention of the projections (B, N, 3 D), whose queries and keys are normed and turned.
  at::Tensor attend(const at::Tensor& packed, const std::vector<at::Tensor>& norms,
                    const WanConfig& config, AttentionTape* tape) const {
    if (group) {
      const at::Tensor dealt = norm_rotary_dealt(packed, norms, rotary, config.heads, config.eps,
                                                 group->ulysses().size());
      return distributed_attention(dealt, *group, tokens, tape);
    }
    const auto qkv = norm_rotary(packed, norms, &rotary, config.heads, config.eps);
    return attention(qkv[0], qkv[1], qkv[2], tape);
  }
};

at::Tensor VideoTransformer::cast(const at::Tensor& parameter) const {
  return parameter.to(compute_);
}

// x W^T with what an adapter adds; the bias is left to the caller.
at::Tensor VideoTransformer::product(const at::Tensor& x, const LinearWeights& layer) const {
  const at::Tensor y =
      layer.stored ? project(x, StoredWeights{layer.stored}) : project(x, cast(layer.weight));
  return with_adapter(y, x, layer.adapter);
}

// One, two or three layers of one input as one product, with biases and what adapters add: (..., n
// M).
at::Tensor VideoTransformer::side_by_side(const at::Tensor& x,
                                          const std::vector<const LinearWeights*>& layers) const {
  std::vector<at::Tensor> weights, biases;
  StoredWeights stored;
  std::vector<const std::optional<Adapter>*> adapters;
  for (const LinearWeights* layer : layers) {
    weights.push_back(layer->weight);
    biases.push_back(layer->bias);
    if (layer->stored) stored.push_back(layer->stored);
    adapters.push_back(&layer->adapter);
  }
  const auto together = [this](const std::vector<at::Tensor>& parts) {
    return parts.size() == 1 ? cast(parts.front()) : joined(parts, compute_);
  };
  const at::Tensor bias = together(biases);
  const at::Tensor y =
      stored.empty() ? project(x, together(weights), bias) : project(x, stored, bias);
  return with_adapters(y, x, adapters);
}

// (B, S, image_dim) -> (B, S, D).
at::Tensor VideoTransformer::embed_image(const at::Tensor& image_states) const {
  constexpr double kEps = 1e-5;  // of these two norms alone, whatever the model's
  at::Tensor x = image_states.to(compute_);
  if (image_positions_.defined()) x = x + cast(image_positions_);
  x = norm_modulate(x, image_norm_in_, image_shift_in_, kEps, 0.0);
  x = at::gelu(project(x, cast(image_in_.weight), cast(image_in_.bias)));
  x = project(x, cast(image_out_.weight), cast(image_out_.bias));
  return norm_modulate(x, image_norm_out_, image_shift_out_, kEps, 0.0);
}

VideoTransformer::Conditions VideoTransformer::embed_conditions(
    const at::Tensor& time, const at::Tensor& text_states, const at::Tensor& image_states) const {
  const at::Tensor code = time_code(time.flatten(), config_.freq_dim).to(table_.scalar_type());
  at::Tensor hidden = project(at::silu(project(code, time_in_.weight, time_in_.bias)),
                              time_out_.weight, time_out_.bias);
  at::Tensor modulation = project(at::silu(hidden), time_table_.weight, time_table_.bias);
  std::vector<int64_t> shape = time.sizes().vec();
  shape.push_back(config_.dim());
  hidden = hidden.view(shape);
  shape.insert(shape.end() - 1, 6);
  modulation = modulation.view(shape);

  const at::Tensor states = text_states.to(compute_);
  const at::Tensor inner = bias_gelu(project(states, cast(text_in_.weight)), text_in_.bias);
  at::Tensor all = project(inner, cast(text_out_.weight), cast(text_out_.bias));
  if (config_.image_dim > 0) all = at::cat({embed_image(image_states), all}, 1);
  return {hidden, modulation, all};
}

// states (B, S + L, D).
at::Tensor VideoTransformer::cross_attention(const BlockWeights& weights, const at::Tensor& x,
                                             const at::Tensor& states, int64_t text_length,
                                             AttentionTape* tape) const {
  const AttentionWeights& w = weights.cross;
  at::Tensor normed = x;
  if (weights.norm_weight.defined())
    normed = norm_modulate(x, weights.norm_weight, weights.norm_bias, config_.eps, 0.0);
  const at::Tensor q = norm_rotary(side_by_side(normed, {&w.query}), {w.norm_query}, nullptr,
                                   config_.heads, config_.eps)[0];
  const auto attend = [&](const LinearWeights& key, const LinearWeights& value,
                          const at::Tensor& norm_key, const at::Tensor& to) {
    const auto kv = norm_rotary(side_by_side(to, {&key, &value}), {norm_key}, nullptr,
                                config_.heads, config_.eps);
    return attention(q, kv[0], kv[1], tape);
  };
  const int64_t num_image = states.size(1) - text_length;
  at::Tensor mixed = attend(w.key, w.value, w.norm_key, states.narrow(1, num_image, text_length));
  if (weights.image) {
    const ImageAttentionWeights& image = *weights.image;
    mixed = mixed + attend(image.key, image.value, image.norm_key, states.narrow(1, 0, num_image));
  }
  return gated_residual(x, product(mixed, w.out), w.out.bias);
}

// inputs: tokens (B, N, D), modulation, states of image and text.
at::Tensor VideoTransformer::block(const BlockWeights& weights, const StretchInputs& inputs,
                                   const Sequence& sequence, AttentionTape* tape) const {
  const auto& [x_in, modulation, states] = inputs;
  const auto m = (modulation + weights.table).unbind(-2);
  const AttentionWeights& w = weights.self;

  const at::Tensor normed = norm_modulate(x_in, m[1], m[0], config_.eps);
  const at::Tensor packed = side_by_side(normed, {&w.query, &w.key, &w.value});
  const at::Tensor mixed = sequence.attend(packed, {w.norm_query, w.norm_key}, config_, tape);
  at::Tensor x = gated_residual(x_in, product(mixed, w.out), w.out.bias, m[2]);

  x = cross_attention(weights, x, states, sequence.text_length, tape);

  const at::Tensor wide = product(norm_modulate(x, m[4], m[3], config_.eps), weights.up);
  const at::Tensor narrow = product(bias_gelu(wide, weights.up.bias), weights.down);
  return gated_residual(x, narrow, weights.down.bias, m[5]);
}

void VideoTransformer::check_image_states(const at::Tensor& states, int64_t batch) const {
  if (config_.image_dim == 0) {
    check(!states.defined(), "no image states: this model takes none");
    return;
  }
  const int positions = config_.image_positions;
  check(states.defined() && states.dim() == 3 && states.size(0) == batch &&
            states.size(2) == config_.image_dim && (positions == 0 || states.size(1) == positions),
        "image states (B, ", positions == 0 ? "S" : std::to_string(positions), ", ",
        config_.image_dim, ")");
}

at::Tensor VideoTransformer::forward(const at::Tensor& latents, const at::Tensor& time,
                                     const at::Tensor& text_states, SequenceGroup* group,
                                     const at::Tensor& image_states) const {
  check(latents.dim() == 5 && latents.size(1) == config_.in_channels, "latents (B, ",
        config_.in_channels, ", F, H, W), found ", latents.sizes());
  check(text_states.dim() == 3 && text_states.size(0) == latents.size(0) &&
            text_states.size(2) == config_.text_dim,
        "text (B, L, ", config_.text_dim, "), found ", text_states.sizes());
  check_image_states(image_states, latents.size(0));
  const at::Tensor patches = to_patches(latents.to(compute_), config_.patch);
  const Grid grid{latents.size(2) / config_.patch[0], latents.size(3) / config_.patch[1],
                  latents.size(4) / config_.patch[2]};
  const bool per_token = time.dim() == 2;
  const int first_trained = first_trained_block();
  const auto tell = [this, first_trained, trains = at::GradMode::is_enabled()](int unit,
                                                                               PassMoment moment) {
    if (stored_) stored_->observe(unit, moment, trains, first_trained);
    if (observer_) observer_(unit, moment);
  };
  tell(0, PassMoment::before_forward);
  check(time.size(0) == latents.size(0) &&
            (time.dim() == 1 || (per_token && time.size(1) == patches.size(1))),
        "time (B) or (B, N) with ", patches.size(1), " tokens, found ", time.sizes());

  Sequence sequence{group && group->width() > 1 ? group : nullptr, patches.size(1),
                    text_states.size(1), rotary_tables(grid, config_.head_dim, table_.options())};
  sequence.rotary = {sequence.own(sequence.rotary.cosine, 0),
                     sequence.own(sequence.rotary.sine, 0)};
  const Conditions conditions =
      embed_conditions(per_token ? sequence.own(time, 1) : time, text_states, image_states);
  at::Tensor x =
      project(sequence.own(patches, 1), cast(patch_.weight).flatten(1), cast(patch_.bias));
  StretchKeeping keeping{.policy = checkpointing_};
  if (offloads_) keeping.store = std::make_shared<HostStore>();
  const bool is_watched = observer_ || (stored_ && stored_->swapped() > 0);
  for (int i = 0; i < config_.layers; ++i) {
    const Stretch stretch = [this, i, sequence](const StretchInputs& inputs, AttentionTape* tape) {
      return block(blocks_[i], inputs, sequence, tape);
    };
    keeping.is_trained = i >= first_trained;
    if (is_watched) keeping.observe = [tell, i](PassMoment moment) { tell(i + 1, moment); };
    x = checkpointed(stretch, {x, conditions.modulation, conditions.states}, keeping);
  }

  const auto last = (conditions.time.unsqueeze(-2) + table_).unbind(-2);
  x = norm_modulate(x, last[1], last[0], config_.eps);
  x = sequence.all(project(x, cast(last_.weight), cast(last_.bias)));
  tell(0, PassMoment::after_forward);
  return from_patches(x, grid, config_.patch).to(table_.scalar_type());
}

}  // namespace pendulum
