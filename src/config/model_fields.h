// Keys of the sections that say what is trained: model, codec, text, objective, optim. See
// fields.h.
#pragma once
#include "config/config.h"
#include "config/spec.h"

namespace pendulum {

template <class V>
void fields(V& v, ModelConfig& c) {
  v(c.preset, {.key = "preset",
               .choices = {"wan-tiny", "wan-2.1-1.3b", "wan-2.1-14b", "wan-2.2-5b"},
               .help = "Named sizes; the keys below replace single ones."});
  v(c.import, {.key = "import",
               .quiet = true,
               .help = "Published weights to start from: a diffusers folder (of the transformer or "
                       "the whole pipeline) or a "
                       "safetensors file, in diffusers' or the original names. They say the sizes; "
                       "`preset` is for `plan`, where they are not there yet."});
  v(c.layers, {.key = "layers", .range = at_least(0), .help = "Blocks; 0: the preset's."});
  v(c.heads, {.key = "heads", .range = at_least(0), .help = "Attention heads; 0: the preset's."});
  v(c.head_dim,
    {.key = "head_dim", .range = at_least(0), .help = "Width of a head; 0: the preset's."});
  v(c.ffn_dim,
    {.key = "ffn_dim", .range = at_least(0), .help = "Inner width of the MLP; 0: the preset's."});
  v(c.freq_dim, {.key = "freq_dim",
                 .range = at_least(0),
                 .help = "Width of the time step's sinusoidal embedding; 0: the preset's."});
  v(c.patch,
    {.key = "patch",
     .range = at_least(1),
     .unit = "latent pixels",
     .length = 3,
     .help =
         "Latent time x height x width of one token; time is 1, for a still has one latent frame. "
         "Empty: the preset's, [1, 2, 2]."});
  v(c.cross_attn_norm,
    {.key = "cross_attn_norm", .help = "Layer norm before cross-attention, as in Wan 2.x."});
  v(c.eps, {.key = "eps", .range = above(0), .help = "Epsilon of every norm (Wan 2.x: 1e-6)."});
  v(c.per_token_time,
    {.key = "per_token_time",
     .help = "The model takes a time step per token (Wan 2.2 5B), not per sample."});
  v(c.image_to_video,
    {.key = "image_to_video",
     .choices = {"auto", "none", "channels", "first-latent"},
     .quiet = true,
     .help = "How a clip's first frame is given. `channels`: as input channels beside the latent "
             "(Wan 2.1, 2.2 A14B), with `image` also as states to attend to; `first-latent`: it "
             "stands in the latent, free of noise, at time 0 (Wan 2.2 5B). `auto`: `channels` "
             "where the model of `import` has them, else `none`."});
  v(c.expert, {.key = "expert",
               .choices = {"none", "high", "low"},
               .quiet = true,
               .help = "Of a pair of models that share the noise between them (Wan 2.2 A14B): the "
                       "one that trains, in its range of times; the other is taken over by an "
                       "export as it is in `import`."});
  v(c.activation_checkpointing,
    {.key = "activation_checkpointing",
     .choices = {"none", "selective", "full"},
     .may_change = true,
     .help = "What a block keeps for its backward pass: everything; its input and its attentions' "
             "results, computing the linear parts twice; or its input alone, computing all twice. "
             "The results are the same."});
  v(c.offload, {.key = "offload",
                .choices = {"none", "block-inputs"},
                .may_change = true,
                .help = "Where what `activation_checkpointing` keeps waits. `block-inputs`: the "
                        "blocks' inputs in host memory, which frees a GPU of them; the copies go "
                        "beside the computing."});
  v(c.frozen_precision,
    {.key = "frozen_precision",
     .choices = {"fp32", "bf16", "fp8", "int8"},
     .quiet = true,
     .help = "How the matrices of blocks beside which `lora` trains are stored: as "
             "they are, or in 2 or 1 bytes a number, `fp8` (E4M3) and `int8` with a scale for "
             "every 64; products are computed as without it."});
  v(c.swap_blocks,
    {.key = "swap_blocks",
     .range = at_least(0),
     .unit = "blocks",
     .may_change = true,
     .quiet = true,
     .help = "Blocks whose frozen matrices wait in host memory and are copied to the GPU ahead of "
             "their use; the last ones of the model. The results are the same."});
  v(c.trainable, {.key = "trainable",
                  .help = "Regular expression; only parameters with a matching name train."});
}

template <class V>
void fields(V& v, LoraConfig& c) {
  v(c.rank, {.key = "rank",
             .range = at_least(0),
             .help = "Rank of the adapters, which alone train then, beside the weights of "
                     "`model.import` (arXiv 2106.09685); 0: none."});
  v(c.alpha, {.key = "alpha",
              .range = at_least(0),
              .help = "Their product counts alpha / rank; 0: as the rank, that is once."});
  v(c.targets,
    {.key = "targets",
     .pattern = kSomething,
     .pattern_words = kSomethingWords,
     .filled = true,
     .help = "Linear layers of the blocks that get one, by the end of their name in diffusers "
             "(`attn1.to_q`; `to_q` means both attentions')."});
}

template <class V>
void fields(V& v, CodecConfig& c) {
  v(c.kind,
    {.key = "kind",
     .choices = {"haar", "wan"},
     .help = "From frames to latents. `haar`: orthonormal space-time Haar transform, no training. "
             "`wan`: the causal 3D VAE of Wan 2.1 (16 channels) or 2.2 (48)."});
  v(c.spatial, {.key = "spatial",
                .range = between(0, 64),
                .unit = "pixels",
                .help = "`haar`: edge of a latent pixel, a power of two; 0: 4. `wan`: what its "
                        "weights have, 8 or 16; leave it out."});
  v(c.temporal,
    {.key = "temporal",
     .range = between(0, 64),
     .unit = "frames",
     .help =
         "`haar`: frames in a latent frame after the first, which is one frame; a power of two; "
         "0: 4. `wan`: 4; leave it out."});
  v(c.drop,
    {.key = "drop",
     .range = at_least(0),
     .unit = "bands",
     .help = "`haar`: finest spatial bands left out, lossy: 1 keeps what the average of 2x2 pixels "
             "keeps."});
  v(c.weights, {.key = "weights",
                .quiet = true,
                .help = "`wan`: published weights, a diffusers folder (of the VAE or the whole "
                        "pipeline) or a safetensors file in diffusers' or the original names."});
  v(c.sample, {.key = "sample",
               .quiet = true,
               .help = "`wan`: latents are drawn anew from the posterior whenever a sample is "
                       "trained on, and normalised then; `false`: its mean, as Wan's own encode "
                       "gives it."});
  v(c.tile,
    {.key = "tile",
     .range = at_least(0),
     .unit = "pixels",
     .may_change = true,
     .quiet = true,
     .help = "`wan`: larger frames are computed in tiles with this edge and a margin beside "
             "it, in less memory, with the same result; 0: whole."});
  v(c.device, {.key = "device",
               .choices = {"auto", "cpu", "cuda"},
               .may_change = true,
               .quiet = true,
               .help = "`wan`: where it computes; `auto`: a GPU where there is one."});
  v(c.precision, {.key = "precision",
                  .choices = {"fp32", "bf16"},
                  .quiet = true,
                  .help = "`wan`: what it computes in on a GPU; on a CPU it is fp32."});
}

template <class V>
void fields(V& v, TextConfig& c) {
  v(c.kind, {.key = "kind",
             .choices = {"minilm", "umt5"},
             .help = "Text encoder. `minilm`: all-MiniLM-L6, 384 wide. `umt5`: UMT5, Wan 2.x's, "
                     "4096 wide in its published size."});
  v(c.weights,
    {.key = "weights",
     .pattern = kSomething,
     .pattern_words = kSomethingWords,
     .help = "Folder of its weights; `auto`: where scripts/setup put MiniLM's. `umt5`: a "
             "diffusers folder with text_encoder/ and tokenizer/, one folder with all "
             "of it, or a safetensors file in transformers' or Wan's original names."});
  v(c.length, {.key = "length",
               .range = between(1, 512),
               .unit = "tokens",
               .help = "Captions are cut or padded with zeros to this (Wan 2.x: 512)."});
}

template <class V>
void fields(V& v, ImageConfig& c) {
  v(c.kind, {.key = "kind",
             .choices = {"none", "clip"},
             .help = "Image encoder. `clip`: CLIP's vision transformer, ViT-H/14 in Wan 2.1's "
                     "image-to-video models."});
  v(c.weights, {.key = "weights",
                .help = "Folder (image_encoder/ of a diffusers folder, or that folder) or "
                        "safetensors file of its weights; needed with `clip`."});
}

template <class V>
void fields(V& v, ObjectiveConfig& c) {
  v(c.predict, {.key = "predict",
                .choices = {"velocity", "x"},
                .help = "What the network puts out: the velocity, as published models do, or the "
                        "clean latent `x`, "
                        "needed where a token holds more numbers than the model is wide. The loss "
                        "is in velocity."});
  v(c.timestep,
    {.key = "timestep",
     .choices = {"logit-normal", "uniform"},
     .help = "Distribution of the time before the shift (logit-normal: arXiv 2403.03206)."});
  v(c.mean, {.key = "mean", .help = "Mean of the logit (arXiv 2403.03206: 0)."});
  v(c.std, {.key = "std",
            .range = above(0),
            .help = "Standard deviation of the logit (arXiv 2403.03206: 1)."});
  v(c.shift,
    {.key = "shift",
     .range = above(0),
     .unset = "auto",
     .help =
         "Shift of times towards noise (arXiv 2403.03206, 5.3.2); `auto`: by a sample's tokens."});
  v(c.caption_dropout,
    {.key = "caption_dropout",
     .range = between(0, 1),
     .unit = "share",
     .help = "Samples trained without caption, for guidance (arXiv 2207.12598: 0.1 to 0.2)."});
  v(c.first_frame,
    {.key = "first_frame",
     .range = between(0, 1),
     .unit = "share",
     .quiet = true,
     .help = "Clips whose first frame an image-to-video model is given; the others, and stills, it "
             "makes from the caption alone."});
  v(c.time_range, {.key = "time_range",
                   .range = between(0, 1),
                   .length = 2,
                   .filled = true,
                   .quiet = true,
                   .help = "Times are drawn from this part of their distribution alone; with "
                           "`model.expert` left at [0, 1] it is the expert's part."});
  v(c.min_time,
    {.key = "min_time",
     .range = {.low = 0, .high = 1, .open_low = true, .open_high = true},
     .help = "With `predict: x`: the time by which the loss divides is at least this."});
  v(c.per_token, {.key = "per_token",
                  .help = "A time per token, not per sample; needs `model.per_token_time`."});
}

template <class V>
void fields(V& v, OptimConfig& c) {
  v(c.kind, {.key = "kind",
             .choices = {"adamw", "adamw8bit", "muon"},
             .help = "`adamw`: arXiv 1711.05101. `adamw8bit`: its moments in 8 bits, with a scale "
                     "for every 256 numbers (arXiv 2110.02861). `muon`: the blocks' matrices by "
                     "Muon (Jordan et al. 2024), the rest by AdamW; the same in all stages."});
  v(c.lr, {.key = "lr", .range = above(0), .help = "Learning rate after warm-up."});
  v(c.betas,
    {.key = "betas",
     .range = {.low = 0, .high = 1, .open_high = true},
     .length = 2,
     .filled = true,
     .help = "Decay of the two moments. 0.99 follows short runs sooner than the usual 0.999."});
  v(c.eps, {.key = "eps",
            .range = above(0),
            .help = "Added to the root of the second moment (arXiv 1412.6980)."});
  v(c.weight_decay,
    {.key = "weight_decay",
     .range = at_least(0),
     .help = "Decoupled decay per step, times lr; of matrices, not of biases and norms."});
  v(c.muon_momentum, {.key = "muon_momentum",
                      .range = {.low = 0, .high = 1, .open_high = true},
                      .help = "`muon`: decay of the momentum (Jordan et al. 2024: 0.95)."});
  v(c.muon_rms, {.key = "muon_rms",
                 .range = above(0),
                 .unit = "lr",
                 .help = "`muon`: root mean square of a matrix's update. 0.2: AdamW's rates serve "
                         "(arXiv 2502.16982)."});
  v(c.warmup,
    {.key = "warmup", .help = "Linear rise of the rate from 0 at the beginning of each stage."});
  v(c.schedule, {.key = "schedule",
                 .choices = {"constant", "linear", "cosine"},
                 .help = "The rate after warm-up, over the stage's steps."});
  v(c.final_lr, {.key = "final_lr",
                 .range = between(0, 1),
                 .unit = "share of lr",
                 .help = "Where `linear` and `cosine` end."});
  v(c.clip, {.key = "clip",
             .range = at_least(0),
             .help = "Largest norm of the whole gradient; 0: no clipping."});
  v(c.ema,
    {.key = "ema",
     .range = {.low = 0, .high = 1, .open_high = true},
     .help = "Decay per step of the averaged weights that are sampled and exported; 0: none."});
  v(c.ema_memory, {.key = "ema_memory",
                   .choices = {"device", "host"},
                   .may_change = true,
                   .quiet = true,
                   .help = "Where the averaged weights are: beside the weights, or in host memory, "
                           "which frees a GPU of them; the same in all stages."});
}

}  // namespace pendulum
