// The normalisation that a SentencePiece model carries, as Hugging Face's tokenizers apply it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pendulum {

// A map from short strings to their replacement; "nmt_nfkc" in T5's models: NFKC, white space made
// ' ', control characters removed.
class Charsmap {
 public:
  Charsmap() = default;  // changes nothing
  // blob: the field precompiled_charsmap, a trie (a double array of Darts-clone) and the
  // replacements. DataError names `name`.
  Charsmap(std::string_view blob, const std::string& name);

  // Grapheme cluster by cluster: one of less than 6 bytes that begins with a string of the map is
  // replaced as a whole, else each of its characters on its own. SentencePiece itself looks for the
  // longest string of the map at each place; the two differ where marks follow a character that is
  // itself replaced. bytes: UTF-8.
  std::string normal_form(std::string_view bytes) const;

 private:
  // Appends what stands for the shortest string of the map that `bytes` begin with; false where
  // there is none.
  bool append_replacement(std::string& out, std::string_view bytes) const;

  std::vector<uint32_t> trie_;
  std::string replacements_;  // each ends with a zero byte
};

}  // namespace pendulum
