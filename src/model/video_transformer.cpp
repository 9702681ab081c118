// The forward pass of the video transformer, from ops/.
#include "model/video_transformer.h"

#include <ATen/ATen.h>

#include "attention/distributed_attention.h"
#include "attention/sharded_sequence.h"
#include "core/error.h"
#include "ops/attention.h"
#include "ops/bias_gelu.h"
#include "ops/gated_residual.h"
#include "ops/norm_modulate.h"
#include "ops/projection.h"

namespace pendulum {

// Legend: B samples, N tokens (this rank's), L text tokens, D model width, H heads, d = D / H.
struct VideoTransformer::Conditions {
  at::Tensor time;         // (B, D) or (B, N, D)
  at::Tensor modulation;   // (B, 6, D) or (B, N, 6, D)
  at::Tensor text_states;  // (B, L, D)
};

// Where the tokens of a forward pass lie: all here, or a part of them.
struct VideoTransformer::Sequence {
  SequenceGroup* group;  // null: all here
  int64_t tokens;        // of the whole
  RotaryTables rotary;   // of those that are here

  at::Tensor own(const at::Tensor& whole, int64_t dim) const {
    return group ? own_tokens(whole, *group, dim) : whole;
  }
  at::Tensor all(const at::Tensor& x) const { return group ? all_tokens(x, *group, tokens) : x; }
  at::Tensor attend(const std::vector<at::Tensor>& qkv, AttentionTape* tape) const {
    return group ? distributed_attention(qkv[0], qkv[1], qkv[2], *group, tokens, tape)
                 : attention(qkv[0], qkv[1], qkv[2], tape);
  }
};

at::Tensor VideoTransformer::cast(const at::Tensor& parameter) const {
  return parameter.to(compute_);
}

// x W^T with what an adapter adds; the bias is left to the caller.
at::Tensor VideoTransformer::product(const at::Tensor& x, const LinearWeights& layer) const {
  return with_adapter(project(x, cast(layer.weight)), x, layer.adapter);
}

VideoTransformer::Conditions VideoTransformer::embed_conditions(
    const at::Tensor& time, const at::Tensor& text_states) const {
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
  return {hidden, modulation, project(inner, cast(text_out_.weight), cast(text_out_.bias))};
}

at::Tensor VideoTransformer::cross_attention(const BlockWeights& weights, const at::Tensor& x,
                                             const at::Tensor& text_states,
                                             AttentionTape* tape) const {
  const AttentionWeights& w = weights.cross;
  at::Tensor normed = x;
  if (weights.norm_weight.defined())
    normed = norm_modulate(x, weights.norm_weight, weights.norm_bias, config_.eps, 0.0);
  const at::Tensor query = with_adapter(project(normed, cast(w.query.weight), cast(w.query.bias)),
                                        normed, w.query.adapter);
  const at::Tensor key_value =
      with_adapters(project(text_states, joined({w.key.weight, w.value.weight}, compute_),
                            joined({w.key.bias, w.value.bias}, compute_)),
                    text_states, {&w.key.adapter, &w.value.adapter});
  const auto q = norm_rotary(query, {w.norm_query}, nullptr, config_.heads, config_.eps);
  const auto kv = norm_rotary(key_value, {w.norm_key}, nullptr, config_.heads, config_.eps);
  const at::Tensor mixed = attention(q[0], kv[0], kv[1], tape);
  return gated_residual(x, product(mixed, w.out), w.out.bias);
}

// inputs: tokens (B, N, D), modulation, text states.
at::Tensor VideoTransformer::block(const BlockWeights& weights, const StretchInputs& inputs,
                                   const Sequence& sequence, AttentionTape* tape) const {
  const auto& [x_in, modulation, text_states] = inputs;
  const auto m = (modulation + weights.table).unbind(-2);
  const AttentionWeights& w = weights.self;

  const at::Tensor normed = norm_modulate(x_in, m[1], m[0], config_.eps);
  const at::Tensor packed = with_adapters(
      project(normed, joined({w.query.weight, w.key.weight, w.value.weight}, compute_),
              joined({w.query.bias, w.key.bias, w.value.bias}, compute_)),
      normed, {&w.query.adapter, &w.key.adapter, &w.value.adapter});
  const auto qkv =
      norm_rotary(packed, {w.norm_query, w.norm_key}, &sequence.rotary, config_.heads, config_.eps);
  const at::Tensor mixed = sequence.attend(qkv, tape);
  at::Tensor x = gated_residual(x_in, product(mixed, w.out), w.out.bias, m[2]);

  x = cross_attention(weights, x, text_states, tape);

  const at::Tensor wide = product(norm_modulate(x, m[4], m[3], config_.eps), weights.up);
  const at::Tensor narrow = product(bias_gelu(wide, weights.up.bias), weights.down);
  return gated_residual(x, narrow, weights.down.bias, m[5]);
}

at::Tensor VideoTransformer::forward(const at::Tensor& latents, const at::Tensor& time,
                                     const at::Tensor& text_states, SequenceGroup* group) const {
  check(latents.dim() == 5 && latents.size(1) == config_.in_channels, "latents (B, ",
        config_.in_channels, ", F, H, W), found ", latents.sizes());
  check(text_states.dim() == 3 && text_states.size(0) == latents.size(0) &&
            text_states.size(2) == config_.text_dim,
        "text (B, L, ", config_.text_dim, "), found ", text_states.sizes());
  const at::Tensor patches = to_patches(latents.to(compute_), config_.patch);
  const Grid grid{latents.size(2) / config_.patch[0], latents.size(3) / config_.patch[1],
                  latents.size(4) / config_.patch[2]};
  const bool per_token = time.dim() == 2;
  check(time.size(0) == latents.size(0) &&
            (time.dim() == 1 || (per_token && time.size(1) == patches.size(1))),
        "time (B) or (B, N) with ", patches.size(1), " tokens, found ", time.sizes());

  Sequence sequence{group && group->width() > 1 ? group : nullptr, patches.size(1),
                    rotary_tables(grid, config_.head_dim, table_.options())};
  sequence.rotary = {sequence.own(sequence.rotary.cosine, 0),
                     sequence.own(sequence.rotary.sine, 0)};
  const Conditions conditions =
      embed_conditions(per_token ? sequence.own(time, 1) : time, text_states);
  at::Tensor x =
      project(sequence.own(patches, 1), cast(patch_.weight).flatten(1), cast(patch_.bias));
  for (const BlockWeights& weights : blocks_) {
    const Stretch stretch = [this, &weights, sequence](const StretchInputs& inputs,
                                                       AttentionTape* tape) {
      return block(weights, inputs, sequence, tape);
    };
    x = checkpointed(stretch, {x, conditions.modulation, conditions.text_states}, checkpointing_);
  }

  const auto last = (conditions.time.unsqueeze(-2) + table_).unbind(-2);
  x = norm_modulate(x, last[1], last[0], config_.eps);
  x = sequence.all(project(x, cast(last_.weight), cast(last_.bias)));
  return from_patches(x, grid, config_.patch).to(table_.scalar_type());
}

}  // namespace pendulum
