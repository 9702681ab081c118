// A published transformer's weights on disk: which model they are, and reading them.
#pragma once
#include <string>

#include "model/config.h"
#include "model/parameters.h"
#include "model/video_transformer.h"
#include "model/weight_layout.h"
#include "safetensors/sharded.h"

namespace pendulum {

class PretrainedTransformer {
 public:
  // path: diffusers' folder of a transformer or of a whole pipeline, or a safetensors file (or
  // index) in diffusers' or the original names. DataError names the path and what is wrong: no
  // weights there, or names of another model.
  static PretrainedTransformer open(const std::string& path);

  // From config.json where there is one, else from the tensors' shapes and 128 elements a head, as
  // all published models have.
  const WanConfig& config() const { return config_; }

  // Fills the model's weights, one tensor at a time. Before any is touched, DataError names the
  // first tensor that is missing, surplus or of another shape, as the file calls it; later the
  // first with a value that is not finite. `read` is told all values in the parameters' type,
  // before they are stored: its digits are fingerprint() of parameters().
  void load_into(VideoTransformer& model, Fingerprint* read = nullptr) const;
  // The same for `these` parameters alone.
  void load_into(const VideoTransformer& model, const NamedTensors& these) const;

 private:
  PretrainedTransformer(ShardedSafetensors tensors, NamedLayout layout)
      : tensors_(std::move(tensors)), layout_(std::move(layout)) {}
  WanConfig config_from_shapes() const;
  void check_names_and_shapes(const WanConfig& config) const;
  void require_finite(bool holds, const std::string& name) const;

  ShardedSafetensors tensors_;
  NamedLayout layout_;
  WanConfig config_;
};

}  // namespace pendulum
