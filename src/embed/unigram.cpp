// The best way to each place of a word, from the left; sums are in fp64 and in this order, since
// both decide among equals.
#include "embed/unigram.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr double kUnknownPenalty = 10;  // below the least probable piece

size_t bytes_of_character(unsigned char first) {
  return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

struct Arrival {
  double score = -std::numeric_limits<double>::infinity();
  size_t start = std::string::npos;  // of the last piece
  int64_t token = 0;

  void offer(double candidate, size_t from, int64_t piece) {
    if (start != std::string::npos && !(candidate > score)) return;
    score = candidate, start = from, token = piece;
  }
};

}  // namespace

Unigram::Unigram(std::vector<std::pair<std::string, double>> pieces, int64_t unknown)
    : pieces_(std::move(pieces)), unknown_(unknown) {
  check(unknown_ >= 0 && unknown_ < size(), "an unknown token of the vocabulary: ", unknown_);
  double least = std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < size(); ++i) {
    const auto& [piece, score] = pieces_[i];
    numbers_.insert_or_assign(piece, i);
    longest_ = std::max(longest_, piece.size());
    least = std::min(least, score);
  }
  unknown_score_ = least - kUnknownPenalty;
}

void Unigram::encode(std::string_view word, std::vector<int64_t>& tokens) const {
  std::vector<Arrival> arrivals(word.size() + 1);
  arrivals[0].score = 0;
  for (size_t start = 0; start < word.size();) {
    const double till_here = arrivals[start].score;
    const size_t character = std::min(bytes_of_character(word[start]), word.size() - start);
    bool is_covered = false;  // this character alone is a piece
    for (size_t bytes = 1; bytes <= std::min(longest_, word.size() - start); ++bytes) {
      const auto found = numbers_.find(word.substr(start, bytes));
      if (found == numbers_.end()) continue;
      const double score = pieces_[found->second].second;
      arrivals[start + bytes].offer(score + till_here, start, found->second);
      is_covered |= bytes == character;
    }
    if (!is_covered) arrivals[start + character].offer(unknown_score_ + till_here, start, unknown_);
    start += character;
  }
  const size_t before = tokens.size();
  for (size_t end = word.size(); end > 0; end = arrivals[end].start) {
    const int64_t token = arrivals[end].token;
    if (token == unknown_ && tokens.size() > before && tokens.back() == unknown_) continue;
    tokens.push_back(token);
  }
  std::reverse(tokens.begin() + static_cast<std::ptrdiff_t>(before), tokens.end());
}

}  // namespace pendulum
