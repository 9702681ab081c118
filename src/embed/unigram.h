// Cuts words into the most probable pieces of a vocabulary (unigram model, Kudo 2018), as Hugging
// Face's tokenizers do.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pendulum {

class Unigram {
 public:
  // pieces: text and log probability; a piece's place is its token. unknown: the token for
  // characters that no piece covers. Every piece may be found in a word, those of control
  // characters and bytes as well: that is how tokenizers takes a vocabulary.
  Unigram(std::vector<std::pair<std::string, double>> pieces, int64_t unknown);
  Unigram(Unigram&&) = default;

  // Appends a word's tokens. Of two ways to cut it that are equally probable in fp64, the one whose
  // last differing piece starts first is taken. A run of unknown characters is one token.
  void encode(std::string_view word, std::vector<int64_t>& tokens) const;

  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }

 private:
  std::vector<std::pair<std::string, double>> pieces_;
  std::unordered_map<std::string_view, int64_t> numbers_;  // keys lie in pieces_
  size_t longest_ = 0;                                     // piece, bytes
  int64_t unknown_;
  double unknown_score_ = 0;
};

}  // namespace pendulum
