// Captions to T5's tokens, as transformers' T5 tokenizer gives them.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "embed/t5_vocabulary.h"
#include "embed/unigram.h"

namespace pendulum {

// Added tokens first; between them text is normalised, split at white space, and each word, with
// "▁" in front, cut into pieces. Thread-safe.
class T5Tokenizer {
 public:
  explicit T5Tokenizer(T5Vocabulary vocabulary);

  // At most `limit` tokens, at least 1; the last is </s>. text: UTF-8; what is not becomes U+FFFD.
  std::vector<int64_t> encode(std::string_view text, int limit) const;

  // One more than the largest token there is.
  int64_t size() const { return size_; }

 private:
  // The added token that begins at the front of `text`, the longest of several; null where none
  // does.
  const AddedToken* added_at(std::string_view text) const;
  void add_text(std::vector<int64_t>& tokens, std::string_view text) const;

  Unigram unigram_;
  Charsmap charsmap_;
  std::vector<AddedToken> added_;  // longest first
  int64_t end_;
  int64_t size_;
};

}  // namespace pendulum
