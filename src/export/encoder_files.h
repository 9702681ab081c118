// The files of text and image encoder in an export, as transformers' from_pretrained wants them.
#pragma once
#include <cstdint>
#include <string>

#include "export/trained_model.h"

namespace pendulum {

// Folders of an export.
inline constexpr char kTextFolder[] = "text_encoder";
inline constexpr char kImageFolder[] = "image_encoder";

// text_encoder/ and, with umt5, tokenizer/: weights as links, all else as copies, under the names
// that they have.
void take_text_encoder(const TextEncoder& encoder, const std::string& folder);

// The same for UMT5EncoderModel and T5Tokenizer, wherever the weights come from: under
// transformers' file names, with the config.json, spiece.model and tokenizer_config.json that
// single files lack. Weights in the original names are written anew, in files of at most
// `shard_bytes`.
void take_umt5_encoder(const TextEncoder& encoder, const std::string& folder, uint64_t shard_bytes);

// image_encoder/ and image_processor/, for CLIPVisionModel and CLIPImageProcessor.
void take_image_encoder(const ClipImageEncoder& encoder, const std::string& folder);

}  // namespace pendulum
