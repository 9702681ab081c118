// The Wan video transformer: latents, times and text in, a prediction shaped like the latents out.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/sequence_group.h"
#include "model/activation_checkpoint.h"
#include "model/config.h"
#include "model/lora.h"
#include "model/stored_blocks.h"
#include "model/tokens.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

struct LinearWeights {
  at::Tensor weight, bias;  // (out, in), (out)
  std::optional<Adapter> adapter{};
  std::shared_ptr<const StoredWeight> stored{};  // in place of `weight`; null: none
};

struct AttentionWeights {
  LinearWeights query, key, value, out;
  at::Tensor norm_query, norm_key;  // (D)
};

// Keys and values of image states, which a cross-attention's queries attend to beside the text.
struct ImageAttentionWeights {
  LinearWeights key, value;
  at::Tensor norm_key;  // (D)
};

struct BlockWeights {
  at::Tensor
      table;  // (1, 6, D): shift, scale, gate of self-attention, then of the feed-forward layer
  AttentionWeights self, cross;
  std::optional<ImageAttentionWeights> image{};
  at::Tensor norm_weight,
      norm_bias;  // (D) before cross-attention; undefined without cross_attn_norm
  LinearWeights up, down;
};

// Parameters and the forward pass of a Wan 2.x transformer, text or image to video, as diffusers'
// WanTransformer3DModel computes it.
class VideoTransformer {
 public:
  // Fresh weights, functions of (seed, name, element) alone; without a seed they are left unset,
  // for published ones to fill. `master` is the parameters' type: kDouble for numerical checks.
  VideoTransformer(const WanConfig& config, std::optional<uint64_t> seed,
                   at::ScalarType master = at::kFloat);
  // All weights are frozen from the start, for adapters to stand beside them; the matrices of
  // blocks' linear layers are stored so, and no parameters. Nothing has a value yet.
  VideoTransformer(const WanConfig& config, WeightStorage blocks,
                   at::ScalarType master = at::kFloat);
  // Copies would share parameters without saying so.
  VideoTransformer(const VideoTransformer&) = delete;
  VideoTransformer& operator=(const VideoTransformer&) = delete;
  VideoTransformer(VideoTransformer&&) = default;
  VideoTransformer& operator=(VideoTransformer&&) = default;

  // latents (B, in_channels, F, H, W) in whole patches; time in [0, 1000], (B) or (B, N) with N
  // tokens in the order (frame, row, column); text_states (B, L, text_dim), zero where a caption is
  // shorter. Models with an image_dim also want image_states (B, S, image_dim). Returns (B,
  // out_channels, F, H, W) of the parameters' type, differentiable with respect to the parameters,
  // the latents and the states.
  //
  // With a group its ranks, which all hold the same arguments, share the tokens; the result is the
  // same on all, and gradients are each rank's part (attention/sharded_sequence.h). Collective; the
  // group outlives the graph.
  at::Tensor forward(const at::Tensor& latents, const at::Tensor& time,
                     const at::Tensor& text_states, SequenceGroup* group = nullptr,
                     const at::Tensor& image_states = {}) const;

  // Leaves, in diffusers' order and under its names; the adapters' behind them. All want gradients,
  // or, with adapters, these alone. Writing into them is seen by the next forward.
  const NamedTensors& parameters() const { return parameters_; }
  int64_t parameter_count() const;

  // The frozen matrices that are stored; null: all weights are parameters.
  const StoredBlocks* stored() const { return stored_.get(); }
  // A stored matrix takes these values, which are on the CPU.
  void store(const std::string& name, const at::Tensor& values);
  // The last `blocks` blocks' stored matrices wait in host memory and come one block ahead of their
  // use. ConfigError names model.swap_blocks where there are fewer blocks. Results are the same.
  void set_swap_blocks(int blocks);

  // Freezes all weights and puts trained adapters beside some (model/lora.h). Once.
  void add_adapters(const LoraConfig& lora, uint64_t seed);
  bool has_adapters() const { return lora_.rank > 0; }
  const LoraConfig& lora() const { return lora_; }
  // What training may change, and a checkpoint holds: the adapters' parameters where there are
  // some, else all.
  NamedTensors trainable() const;
  // All but the adapters'.
  NamedTensors base() const;
  // The layers' weights take in what the adapters add, and the adapters are gone. None may be
  // stored.
  void merge_adapters();
  // Fresh values for `these`, as the constructor gives them to all; names are those of
  // parameters().
  void start(const NamedTensors& these, uint64_t seed);

  // Overwrites every parameter. DataError names the first tensor that is missing, unknown or of
  // another shape; nothing is changed then.
  void load(const std::map<std::string, at::Tensor>& values);
  // The same for trainable() alone.
  void load_trainable(const std::map<std::string, at::Tensor>& values);

  // The type of activations and matrix products: kFloat or kBFloat16 (kDouble with fp64
  // parameters). Norms, modulation, rotation and the time embedding stay in the parameters' type.
  void set_compute(at::ScalarType type);
  // What blocks keep for the backward pass; none at first.
  void set_activation_checkpointing(ActivationCheckpointing policy) { checkpointing_ = policy; }
  // Whether the inputs that blocks keep wait in host memory; not at first.
  void set_offload(bool offloads) { offloads_ = offloads; }
  // Who is told when a block's parameters are used and when their gradients are complete; at first
  // nobody. Outlives the graphs.
  void set_observer(PassObserver observer) { observer_ = std::move(observer); }
  // The first block that a gradient reaches, as parameters require them now; the number of blocks
  // where only what follows them does.
  int first_trained_block() const;
  // Moves the parameters; handles taken from parameters() before keep the old ones.
  void to(at::Device device);

  const WanConfig& config() const { return config_; }
  at::Device device() const { return parameters_.front().second.device(); }

 private:
  struct Conditions;
  struct Sequence;

  void bind();
  Conditions embed_conditions(const at::Tensor& time, const at::Tensor& text_states,
                              const at::Tensor& image_states) const;
  void check_image_states(const at::Tensor& states, int64_t batch) const;
  at::Tensor embed_image(const at::Tensor& image_states) const;
  at::Tensor block(const BlockWeights& weights, const StretchInputs& inputs,
                   const Sequence& sequence, AttentionTape* tape) const;
  at::Tensor cross_attention(const BlockWeights& weights, const at::Tensor& x,
                             const at::Tensor& states, int64_t text_length,
                             AttentionTape* tape) const;
  at::Tensor cast(const at::Tensor& parameter) const;
  at::Tensor product(const at::Tensor& x, const LinearWeights& layer) const;
  at::Tensor side_by_side(const at::Tensor& x,
                          const std::vector<const LinearWeights*>& layers) const;
  std::vector<ParameterSpec> specs() const;

  WanConfig config_;
  LoraConfig lora_;
  at::ScalarType compute_;
  ActivationCheckpointing checkpointing_ = ActivationCheckpointing::none;
  bool offloads_ = false;
  PassObserver observer_;
  NamedTensors parameters_;
  std::unique_ptr<StoredBlocks> stored_;

  // The same tensors by their role.
  at::Tensor table_;  // (1, 2, D): shift and scale of the last norm
  LinearWeights patch_, time_in_, time_out_, time_table_, text_in_, text_out_, last_;
  // Of the image states; undefined without.
  at::Tensor image_positions_;  // (1, S, image_dim)
  at::Tensor image_norm_in_, image_shift_in_, image_norm_out_, image_shift_out_;
  LinearWeights image_in_, image_out_;
  std::vector<BlockWeights> blocks_;
};

}  // namespace pendulum
