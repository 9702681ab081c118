// A SentencePiece model file (spiece.model): its pieces, and how text is normalised before it is
// cut into them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pendulum {

struct SentencePiece {
  // The file format's numbers.
  enum class Kind { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  std::string text;
  float score = 0;  // log probability
  Kind kind = Kind::normal;
};

struct SentencePieceModel {
  std::vector<SentencePiece> pieces;  // a piece's place is its token number
  int64_t unknown = 0;                // the piece for what no other covers
  std::string charsmap;               // what charsmap.h reads; empty: no normalisation
};

// bytes: of the file, a protocol buffer sentencepiece.ModelProto
// (github.com/google/sentencepiece, sentencepiece_model.proto). DataError names `name` and what is
// wrong: damaged bytes, a model that is no unigram model, no piece that stands for the unknown.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& name);

}  // namespace pendulum
