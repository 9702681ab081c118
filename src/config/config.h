// Every setting of a run as typed structs. One `fields` list per struct drives parsing, printing,
// documentation, the override of a stage and the comparison on resume; adding a key is adding a
// member and its line.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/units.h"
#include "core/shape.h"

namespace pendulum {

struct RunConfig {
  std::string name = "run";
  std::string dir = "runs";
  uint64_t seed = 7;
  Every validate = Every::steps(200);
  Every sample = Every::stage();
  Every evaluate = Every::never();  // accuracy on the synthetic data's held-out captions
  Every save = Every::steps(500);
  int keep = 2;
  bool sample_losses = false;  // whether metrics.jsonl lists every sample's loss
  std::string inject{};        // fault injection for tests, "kill@120"; empty in real runs

  bool operator==(const RunConfig&) const = default;
};

struct MeshConfig {
  int slot = 1;
  int slots = 1;
  int accumulate = 1;
  int dwell = 8;
  Beat beat{};      // unset: batches are given per stage
  int threads = 0;  // per process; 0: cores divided by the processes on this machine
  std::string device = "auto";
  double device_flops = 0;           // that a device does in a second at best; 0: not given
  double efficiency = 1;             // share of device_flops that a step reaches
  double device_memory_gb = 0;       // of a device; 0: no bound
  double slot_gb_per_second = 0;     // a process's, within its slot; 0: exchange is free
  double network_gb_per_second = 0;  // a process's, between slots; 0: exchange is free
  std::string calibration{};         // measured costs, by plan --calibrate; empty: computed
  double timeout = 600;              // seconds
  int zero = 0;  // level: 1: updates are dealt out over processes, 2: gradients, 3: weights
  std::string zero_within = "world";

  bool operator==(const MeshConfig&) const = default;
};

struct ModelConfig {
  std::string preset = "wan-tiny";
  std::string import{};  // a folder or file of published weights; empty: fresh ones
  int layers = 0, heads = 0, head_dim = 0, ffn_dim = 0, freq_dim = 0;  // 0: from the preset
  std::vector<int> patch{};  // (time, height, width); empty: preset
  bool cross_attn_norm = true;
  double eps = 1e-6;
  bool per_token_time = false;
  std::string image_to_video = "auto";
  std::string expert = "none";  // of Wan 2.2's pair by noise: the one that trains
  std::string activation_checkpointing = "none";
  std::string offload = "none";
  std::string frozen_precision = "fp32";  // how weights that do not train are stored
  int swap_blocks = 0;                    // blocks whose frozen weights wait in host memory
  std::string trainable = ".*";           // regular expression over parameter names

  bool operator==(const ModelConfig&) const = default;
};

// Low-rank adapters beside frozen, imported weights.
struct LoraConfig {
  int rank = 0;      // 0: none, all of the model trains
  double alpha = 0;  // 0: as rank
  std::vector<std::string> targets{"to_q",     "to_k",           "to_v",
                                   "to_out.0", "ffn.net.0.proj", "ffn.net.2"};

  // What the adapters' product is multiplied with.
  double scale() const { return (alpha == 0 ? rank : alpha) / rank; }

  bool operator==(const LoraConfig&) const = default;
};

inline constexpr int kHaarFactor = 4;  // of space and time where none is given

struct CodecConfig {
  std::string kind = "haar";
  // Of "haar". 0: kHaarFactor; "wan" takes no other number, its weights say what it has.
  int spatial = 0;   // pixels per latent pixel, a power of two
  int temporal = 0;  // frames per latent frame after the first, a power of two
  int drop = 0;      // finest spatial bands left out (lossy): 1 keeps what a 2x2 average keeps
  // Of "wan".
  std::string weights{};  // folder or file
  bool sample = true;     // latents are drawn from the posterior; else its mean
  int tile = 0;           // pixels; 0: frames are taken whole
  std::string device = "auto";
  std::string precision = "fp32";

  bool operator==(const CodecConfig&) const = default;
};

struct TextConfig {
  std::string kind = "minilm";
  std::string weights = "auto";
  int length = 32;  // tokens

  bool operator==(const TextConfig&) const = default;
};

struct ImageConfig {
  std::string kind = "none";
  std::string weights{};  // a folder or a safetensors file; empty with kind none

  bool operator==(const ImageConfig&) const = default;
};

// Where weights come from that no sample of this run has shaped.
struct OriginConfig {
  std::string licence{}, holder{}, basis{};
  std::string expiry{};  // a day, or never; empty: not said

  bool operator==(const OriginConfig&) const = default;
};

struct RightsConfig {
  std::vector<std::string> allow{};
  std::string policy{};               // an expression, rights/expression.h; empty: none
  std::string as_of = "start";        // a day; start: the UTC day on which the run began
  std::vector<std::string> deny{};    // files, rights/deny_list.h
  Every recheck = Every::steps(100);  // when the deny files are read again
  std::string key{};                  // PEM file that signs the consumption log
  bool licensed_only = false;         // refuse weights without a declared origin
  std::string origin_policy{};        // empty: allow and policy hold for origins too
  std::map<std::string, OriginConfig> origins{};  // model, codec, text, image
  double max_unreadable = 0.01;                   // share of a source's draws

  bool operator==(const RightsConfig&) const = default;
};

struct SourceConfig {
  std::vector<std::string> data{};  // folders; one added behind the others brings new samples
  double max_epochs = 0;            // 0: no limit
  int validation = 32;              // samples held out where the data names no split
  int64_t assume_samples = 0;  // for `pendulum plan` where the data is not there; 0: it must be

  bool operator==(const SourceConfig&) const = default;
};

struct EmbedConfig {
  int workers = 1;
  int prefetch = 8;            // passes decoded and embedded ahead of the trainer
  std::string cache = "auto";  // folder; auto: <run.dir>/cache; off
  double cache_limit_gb = 20;

  bool operator==(const EmbedConfig&) const = default;
};

struct ObjectiveConfig {
  std::string predict = "velocity";
  std::string timestep = "logit-normal";
  double mean = 0, std = 1;
  std::optional<double> shift{};  // unset: by resolution
  double caption_dropout = 0.1;
  double first_frame = 1;                // share of clips trained with their first frame given
  std::vector<double> time_range{0, 1};  // of the times after the shift
  double min_time = 0.02;  // with predict x: the velocity's denominator is at least this
  bool per_token = false;

  bool operator==(const ObjectiveConfig&) const = default;
};

struct OptimConfig {
  std::string kind = "adamw";
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.99};
  double eps = 1e-8;
  double weight_decay = 0.01;
  double muon_momentum = 0.95;
  double muon_rms = 0.2;  // of a matrix's update, in units of lr
  Steps warmup{0};
  std::string schedule = "constant";
  double final_lr = 0.0;  // share of lr at the end of the stage
  double clip = 1.0;
  double ema = 0.999;  // 0: none
  std::string ema_memory = "device";

  bool operator==(const OptimConfig&) const = default;
};

struct GenerateConfig {
  std::string solver = "euler";
  int steps = 20;
  double guidance = 3.0;
  std::optional<double> shift{};
  int fps = 8;
  std::vector<std::string> prompts{};
  std::vector<std::string> images{};  // first frames, one per prompt; empty: none is given

  bool operator==(const GenerateConfig&) const = default;
};

// Width to height of a picture.
struct Aspect {
  int width = 1, height = 1;
  auto operator<=>(const Aspect&) const = default;
};

// Which pictures a stage's buckets take, besides the largest shape.
struct BucketConfig {
  std::vector<int> lengths{};     // frames that clips may have, falling; empty: every 4k+1
  std::vector<Aspect> aspects{};  // of the buckets' sizes; empty: the shape's size alone
  bool auto_aspects = false;      // the usual aspects, the shape's own among them
  int min_frames = 1;             // clips that fill fewer are refused
  double min_scale = 0;           // of the crop's side to the bucket's: below 1, what is refused

  bool operator==(const BucketConfig&) const = default;
};

// One phase of the curriculum. In the YAML, `shape: {frames, size, fps}` holds shape and fps, and
// `optim` and `objective` hold only the keys that differ from the run's; here they are complete.
struct StageConfig {
  std::string name{};
  double compute = 0;  // share of the run's FLOPs
  int64_t steps = 0;   // instead of compute
  std::map<std::string, double> sources{};
  Shape shape{};
  double fps = 8;
  BucketConfig buckets{};
  std::map<std::string, Shape> shapes{};  // by source, where another than `shape`
  std::map<std::string, int> batch{};     // samples per group, by source; empty: from the beat
  std::map<std::string, int> width{};     // GPUs per sample, by source; empty: from the beat
  OptimConfig optim{};                    // the run's, with the stage's keys laid over
  ObjectiveConfig objective{};

  const Shape& shape_of(const std::string& source) const {
    const auto own = shapes.find(source);
    return own == shapes.end() ? shape : own->second;
  }
  // The stage as a source sees it: with the shape that is its own.
  StageConfig seen_by(const std::string& source) const {
    StageConfig seen = *this;
    seen.shape = shape_of(source);
    return seen;
  }
  bool operator==(const StageConfig&) const = default;
};

struct Config {
  int version = 1;
  double total_flops =
      0;  // with `compute`: the run's training FLOPs, for example 2e13; unit "TFLOP" allowed
  std::string weights = "samples";  // what source weights count: samples, tokens, draws
  RunConfig run{};
  MeshConfig mesh{};
  ModelConfig model{};
  LoraConfig lora{};
  CodecConfig codec{};
  TextConfig text{};
  ImageConfig image{};
  RightsConfig rights{};
  EmbedConfig embed{};
  GenerateConfig generate{};
  ObjectiveConfig objective{};
  OptimConfig optim{};
  std::map<std::string, SourceConfig> sources{};
  std::vector<StageConfig> stages{};

  bool operator==(const Config&) const = default;
};

// Reads and checks a file with what it includes; `overrides` are "a.b=c" (list elements by index
// or, for stages, by name: stages.image.steps=5). Throws ConfigError with file, line, key, what was
// found, what was expected and the nearest valid key.
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});
// A later part's message that begins with a key, "stages.image.width.clips: ...", with file and
// line of that key in front, as load_config's own messages have; any other message as it is.
std::string located(const std::string& message, const std::string& path,
                    const std::vector<std::string>& overrides);
// load_config from a text; its includes are relative to the folder of name_for_errors, as a path.
Config parse_config(const std::string& yaml_text, const std::string& name_for_errors = "config");

// The resolved configuration, every default written out; parse_config(print_config(c)) == c.
std::string print_config(const Config& config);

// The documented schema as a Markdown page; docs/configuration.md is this text.
std::string config_reference();

// Keys whose value differs between the two and that a resumed run may not change; empty:
// compatible.
std::vector<std::string> incompatible_keys(const Config& saved, const Config& now);

}  // namespace pendulum
