// Basic tokens (words and punctuation of the normal form), then the longest known piece from the
// left, again and again.
#include "embed/wordpiece.h"

#include <algorithm>
#include <fstream>

#include "core/error.h"
#include "embed/unicode.h"

namespace pendulum {
namespace {

constexpr size_t kLongestWord = 100;  // code points; what is longer is unknown, as in the original

}  // namespace

WordPiece::WordPiece(const std::string& vocabulary_path) {
  std::ifstream file(vocabulary_path);
  if (!file) throw DataError(text(vocabulary_path, ": cannot be opened for reading"));
  for (std::string line; std::getline(file, line); ++size_) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.starts_with("##") && line.size() > 2) {
      continuations_.emplace(line.substr(2), size_);
    } else {
      starts_.emplace(line, size_);
    }
  }
  if (file.bad()) throw DataError(text(vocabulary_path, ": reading failed before its end"));
  const auto number = [&](const char* piece) {
    const auto found = starts_.find(piece);
    if (found == starts_.end()) throw DataError(text(vocabulary_path, ": has no ", piece));
    return found->second;
  };
  unknown_ = number("[UNK]"), first_ = number("[CLS]"), last_ = number("[SEP]");
  specials_ = {{{"[PAD]", number("[PAD]")},
                {"[UNK]", unknown_},
                {"[CLS]", first_},
                {"[SEP]", last_},
                {"[MASK]", number("[MASK]")}}};
}

std::vector<int64_t> WordPiece::encode(std::string_view text, int limit) const {
  check(limit >= 2, "room for [CLS] and [SEP]: ", limit);
  std::vector<int64_t> tokens{first_};
  // Special tokens written out in the text are themselves, in capitals only.
  size_t done = 0;
  for (size_t at = text.find('['); at != text.npos; at = text.find('[', at + 1)) {
    for (const auto& [name, number] : specials_) {
      if (at < done || !text.substr(at).starts_with(name)) continue;
      add_text(tokens, text.substr(done, at - done));
      tokens.push_back(number);
      done = at + name.size();
    }
  }
  add_text(tokens, text.substr(done));
  tokens.resize(std::min<size_t>(tokens.size(), limit - 1));
  tokens.push_back(last_);
  return tokens;
}

void WordPiece::add_text(std::vector<int64_t>& tokens, std::string_view text) const {
  const std::u32string normal = bert_normal_form(decode_utf8(text));
  const std::u32string_view view(normal);
  for (size_t start = 0; start < view.size();) {
    size_t end = start;
    while (end < view.size() && view[end] != U' ' && !is_bert_punctuation(view[end])) ++end;
    if (end > start) add_word(tokens, view.substr(start, end - start));
    if (end < view.size() && view[end] != U' ') add_word(tokens, view.substr(end, 1));
    start = end + 1;
  }
}

void WordPiece::add_word(std::vector<int64_t>& tokens, std::u32string_view word) const {
  if (word.size() > kLongestWord) return tokens.push_back(unknown_);
  std::string bytes;
  std::vector<size_t> ends{0};  // of the first n code points, in bytes
  for (size_t i = 0; i < word.size(); ++i) {
    bytes += encode_utf8(word.substr(i, 1));
    ends.push_back(bytes.size());
  }
  const size_t before = tokens.size();
  for (size_t start = 0; start < word.size();) {
    const Pieces& pieces = start == 0 ? starts_ : continuations_;
    size_t end = word.size();
    auto found = pieces.end();
    while (end > start) {
      found = pieces.find(std::string_view(bytes).substr(ends[start], ends[end] - ends[start]));
      if (found != pieces.end()) break;
      --end;
    }
    if (found == pieces.end()) {
      tokens.resize(before);  // one unknown piece makes the whole word unknown
      return tokens.push_back(unknown_);
    }
    tokens.push_back(found->second);
    start = end;
  }
}

}  // namespace pendulum
