// Text encoder "umt5": Wan 2.x's, with its cleaning of prompts, its tokenizer and its padding.
#pragma once
#include <mutex>
#include <string>
#include <vector>

#include "embed/t5_tokenizer.h"
#include "embed/text_encoder.h"
#include "embed/umt5.h"

namespace pendulum {

// Where the parts of a UMT5 encoder lie.
struct Umt5Place {
  std::string weights;     // a folder or a safetensors file
  std::string vocabulary;  // tokenizer.json or spiece.model; empty: in the weights' file itself
};

// States are last_hidden_state of UMT5EncoderModel for a cleaned caption and </s>; what follows
// them up to `length` is zero, as in WanPipeline. Wan 2.x was trained with a length of 512.
class Umt5Encoder final : public TextEncoder {
 public:
  // path: diffusers' folder with text_encoder/ and tokenizer/, the folder text_encoder beside
  // tokenizer/, a folder that holds all of it, or a safetensors file with the vocabulary inside, in
  // its folder, or in tokenizer/ or google/umt5-xxl/ of that folder. On another device than the CPU
  // products are computed in bf16. ConfigError where nothing of the kind is there or the length is
  // out of range; DataError naming the file and what is wrong with it.
  Umt5Encoder(const TextConfig& config, const std::string& path, at::Device device = at::kCPU);

  at::Tensor states(std::string_view caption) const override;
  // The states of the empty caption, as Wan's pipelines tell it; computed the first time.
  at::Tensor no_caption() const override;
  int dim() const override { return static_cast<int>(network_.config().width); }
  // Reads all weights the first time; their hashes are remembered beside them (content_hash.h).
  std::string key() const override;
  std::vector<TakenFile> files() const override;

 private:
  Umt5Encoder(const TextConfig& config, Umt5Place place, at::Device device);

  Umt5Place place_;
  Umt5 network_;
  T5Tokenizer tokenizer_;
  std::string compute_;  // "fp32" or "bf16"
  mutable std::once_flag key_once_;
  mutable std::string key_;
  mutable std::once_flag no_caption_once_;
  mutable at::Tensor no_caption_;
};

}  // namespace pendulum
