// What a T5 tokenizer's files say: pieces, normal forms, and the tokens that stand for themselves.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "embed/charsmap.h"

namespace pendulum {

// Found in the text as it was given, before it is normalised: "</s>", "<extra_id_7>".
struct AddedToken {
  std::string text;
  int64_t token = 0;
  bool takes_space_before = false, takes_space_after = false;
};

struct T5Vocabulary {
  std::vector<std::pair<std::string, double>> pieces{};  // text, log probability
  int64_t unknown = 0;
  int64_t end = 0;  // </s>
  Charsmap charsmap{};
  std::vector<AddedToken> added{};
};

// bytes: of tokenizer.json, as the package tokenizers writes it. DataError names `name`.
T5Vocabulary parse_tokenizer_json(std::string_view bytes, const std::string& name);

// bytes: of spiece.model. Behind its pieces come the sentinels <extra_id_{n-1}> to <extra_id_0>.
T5Vocabulary parse_spiece_model(std::string_view bytes, int sentinels, const std::string& name);

// UMT5's, whose embedding has room for them; transformers' default for T5 is 100.
inline constexpr int kUmt5Sentinels = 300;

// The file that holds the vocabulary in a folder: tokenizer.json or, failing that, spiece.model;
// empty where there is neither.
std::string find_t5_vocabulary(const std::string& folder);

// Such a file. The number of sentinels beside a spiece.model is that of its tokenizer_config.json,
// or UMT5's where there is none.
T5Vocabulary read_t5_vocabulary(const std::string& path);

}  // namespace pendulum
