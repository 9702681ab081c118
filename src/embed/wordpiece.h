// WordPiece: text to the token numbers of uncased BERT vocabularies.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pendulum {

class WordPiece {
 public:
  // A vocabulary has one piece a line, its number being the line's, pieces inside a word starting
  // with "##". DataError where the file cannot be read or lacks [PAD], [UNK], [CLS], [SEP] or
  // [MASK].
  explicit WordPiece(const std::string& vocabulary_path);

  // [CLS] pieces [SEP], at most `limit` (2 or more) of them: what is too long loses its end. The
  // same numbers as transformers' BertTokenizer gives. Any bytes will do; those that are not UTF-8
  // are ignored.
  std::vector<int64_t> encode(std::string_view text, int limit) const;

  int64_t size() const { return size_; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };
  using Pieces = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

  void add_text(std::vector<int64_t>& tokens, std::string_view text) const;
  void add_word(std::vector<int64_t>& tokens, std::u32string_view word) const;

  Pieces starts_, continuations_;  // the latter without their "##"
  std::array<std::pair<std::string, int64_t>, 5> specials_;
  int64_t unknown_ = 0, first_ = 0, last_ = 0;
  int64_t size_ = 0;
};

}  // namespace pendulum
