// A trained model with all that drawing clips needs, out of an export, a checkpoint or a run.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/shape.h"
#include "embed/clip_image.h"
#include "embed/codec.h"
#include "embed/conditions.h"
#include "embed/text_encoder.h"
#include "generate/generator.h"
#include "model/experts.h"
#include "model/video_transformer.h"
#include "rights/origin.h"

namespace pendulum {

// Where weights come from; written into every export.
struct Provenance {
  std::string run;               // its name
  std::string stage;             // the last one trained
  int64_t step = 0;              // optimiser steps taken
  std::string weights = "ema";   // "ema" or "raw"
  std::string plan_hash;         // of the data plan
  std::string base{};            // the imported model that adapters were trained beside; else empty
  std::string consumption_head;  // of the consumption log's hash chain; empty where none was kept
  int64_t consumption_seq = -1;  // number of that line; -1 where an earlier version did not note it
  std::string consumption_public_key{}, consumption_signature{};  // empty: not signed
  std::vector<Origin> origins{};  // of what shaped the weights beside the data

  // For people: which weights, and the head of the log.
  std::string weights_words() const {
    return weights == "ema" ? "moving average of the weights" : "weights as trained";
  }
  std::string head_words() const {
    return consumption_head.empty() ? "not recorded" : consumption_head;
  }
};

// Of two transformers that share the times between them (model/experts.h).
struct Pair {
  Expert trained = Expert::none;            // none: there is one transformer for all times
  double boundary = 0;                      // the time at which they change over
  std::unique_ptr<VideoTransformer> other;  // as it was imported; null: it is not at hand
};

struct TrainedModel {
  WanConfig architecture;
  std::unique_ptr<VideoTransformer> transformer;  // fp32 on the CPU after loading
  Pair pair;
  CodecConfig codec_config;
  std::unique_ptr<Codec> codec;
  TextConfig text_config;
  std::unique_ptr<TextEncoder> text_encoder;
  ImageConfig image_config;
  std::unique_ptr<ClipImageEncoder> image_encoder;  // null where the model has no image states
  GenerateConfig generate;
  ObjectiveConfig objective;  // of the last stage trained; drawing needs its prediction
  Shape shape;                // of the last stage trained
  FirstFrame first_frame = FirstFrame::none;  // how the transformer is given one
  Provenance provenance;

  // Moves the transformer; on a GPU it computes in bf16. device: "cpu", "cuda" or "auto".
  // ConfigError for any other, and for "cuda" without a GPU.
  void to(const std::string& device);
  // Draws with `generate` as it stands. The generator refers to this model, which must outlive it.
  // ConfigError for one of a pair without the other.
  Generator generator() const;
  // ConfigError naming what does not fit where the codec or the patches cannot divide the shape.
  void check_shape(const Shape& wanted) const;
};

// A transformer with published or exported weights (model/pretrained.h), converted to fp32.
// DataError naming the file and the tensor that is missing, left over or of another shape.
std::unique_ptr<VideoTransformer> load_transformer(const WanConfig& config,
                                                   const std::string& path);

// From a checkpoint folder, or from the newest complete checkpoint of a run folder. is_raw: the
// weights as trained in place of their moving average; a run without a moving average has only
// these.
TrainedModel load_checkpoint_model(const std::string& path, bool is_raw);

// From an export or, failing that, as load_checkpoint_model does. ConfigError where the folder is
// neither.
TrainedModel open_model(const std::string& path, bool is_raw);

}  // namespace pendulum
