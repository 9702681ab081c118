// BERT encoders such as MiniLM-L6: token numbers in, one hidden state per token out.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace pendulum {

// Post-layer-norm transformer of Devlin et al. 2018 with absolute positions and exact GELU, fp32 on
// the CPU. Weights and hyperparameters are those of a published folder (config.json,
// model.safetensors).
class MiniLm {
 public:
  // DataError names the file and what is missing or of another architecture.
  explicit MiniLm(const std::string& folder);

  // (T) token numbers -> last hidden state (T, width), as BertModel gives it without any padding.
  // Without gradient. Thread-safe.
  at::Tensor forward(const std::vector<int64_t>& tokens) const;

  int64_t width() const { return word_embeddings_.size(1); }
  int64_t vocabulary() const { return word_embeddings_.size(0); }
  int64_t max_tokens() const { return positions_.size(0); }

 private:
  struct Affine {
    at::Tensor weight, bias;
  };
  struct Layer {
    Affine query_key_value, attention_out, attention_norm, up, down, output_norm;
  };
  at::Tensor attention(const Layer& layer, const at::Tensor& x) const;
  at::Tensor normalize(const Affine& norm, const at::Tensor& x) const;

  int64_t heads_ = 0;
  double eps_ = 0;
  at::Tensor word_embeddings_;  // (vocabulary, width)
  at::Tensor positions_;        // (max tokens, width), with token type 0 added
  Affine embedding_norm_;
  std::vector<Layer> layers_;
};

}  // namespace pendulum
