// The order of steps, and what counts as white space, are those of the package tokenizers.
#include "embed/t5_tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "embed/unicode.h"

namespace pendulum {
namespace {

constexpr char32_t kWordStart = U'\u2581';  // ▁

// "▁word", or several such where the word itself holds the mark: each begins a piece of its own.
void add_word(std::vector<int64_t>& tokens, const Unigram& unigram, std::u32string word) {
  if (word.front() != kWordStart) word.insert(word.begin(), kWordStart);
  for (size_t start = 0; start < word.size();) {
    const size_t end = std::min(word.find(kWordStart, start + 1), word.size());
    unigram.encode(encode_utf8(std::u32string_view(word).substr(start, end - start)), tokens);
    start = end;
  }
}

// Of the white space at the front of `text`.
size_t leading_space(std::string_view text) {
  size_t bytes = 0;
  for (const char32_t c : decode_utf8(text)) {
    if (!is_white_space(c)) break;
    bytes += encode_utf8({&c, 1}).size();
  }
  return bytes;
}

std::string_view without_trailing_space(std::string_view text) {
  const std::u32string code_points = decode_utf8(text);
  size_t bytes = text.size();
  for (size_t i = code_points.size(); i > 0 && is_white_space(code_points[i - 1]); --i)
    bytes -= encode_utf8({&code_points[i - 1], 1}).size();
  return text.substr(0, bytes);
}

}  // namespace

T5Tokenizer::T5Tokenizer(T5Vocabulary vocabulary)
    : unigram_(std::move(vocabulary.pieces), vocabulary.unknown),
      charsmap_(std::move(vocabulary.charsmap)),
      added_(std::move(vocabulary.added)),
      end_(vocabulary.end),
      size_(unigram_.size()) {
  // An empty one, of a damaged file, would be found everywhere.
  std::erase_if(added_, [](const AddedToken& added) { return added.text.empty(); });
  std::stable_sort(added_.begin(), added_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.text.size() > b.text.size();
  });
  for (const AddedToken& added : added_) size_ = std::max(size_, added.token + 1);
}

const AddedToken* T5Tokenizer::added_at(std::string_view text) const {
  for (const AddedToken& added : added_) {
    if (text.starts_with(added.text)) return &added;
  }
  return nullptr;
}

std::vector<int64_t> T5Tokenizer::encode(std::string_view text, int limit) const {
  check(limit >= 1, "room for </s>: ", limit);
  const std::string valid = encode_utf8(decode_utf8(text));  // so that byte counts agree
  std::string_view left = valid;
  std::vector<int64_t> tokens;
  for (size_t at = 0; at < left.size();) {
    const AddedToken* added = added_at(left.substr(at));
    if (!added) {
      ++at;
      continue;
    }
    const std::string_view before = left.substr(0, at);
    add_text(tokens, added->takes_space_before ? without_trailing_space(before) : before);
    tokens.push_back(added->token);
    left.remove_prefix(at + added->text.size());
    if (added->takes_space_after) left.remove_prefix(leading_space(left));
    at = 0;
  }
  add_text(tokens, left);
  tokens.resize(std::min<size_t>(tokens.size(), limit - 1));
  tokens.push_back(end_);
  return tokens;
}

void T5Tokenizer::add_text(std::vector<int64_t>& tokens, std::string_view text) const {
  const std::u32string normal = decode_utf8(charsmap_.normal_form(text));
  for (size_t start = 0; start < normal.size();) {
    size_t end = start;
    while (end < normal.size() && !is_white_space(normal[end])) ++end;
    if (end > start) add_word(tokens, unigram_, normal.substr(start, end - start));
    start = end + 1;
  }
}

}  // namespace pendulum
