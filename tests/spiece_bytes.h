// Bytes of small SentencePiece models, written field by field.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "embed/sentencepiece_model.h"

namespace pendulum {

inline std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

inline std::string number_field(int field, uint64_t value) {
  return varint(field << 3) + varint(value);
}

inline std::string bytes_field(int field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

inline std::string float_field(int field, float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  std::string out = varint(field << 3 | 5);
  for (int i = 0; i < 4; ++i) out += static_cast<char>(bits >> 8 * i);
  return out;
}

// ModelProto: pieces, trainer_spec (model_type, unk_id), normalizer_spec (name, charsmap).
inline std::string spiece_bytes(const std::vector<SentencePiece>& pieces, int64_t unknown = 2,
                                const std::string& charsmap = "", int model_type = 1) {
  std::string out;
  for (const SentencePiece& piece : pieces) {
    out += bytes_field(1, bytes_field(1, piece.text) + float_field(2, piece.score) +
                              number_field(3, static_cast<uint64_t>(piece.kind)));
  }
  out += bytes_field(2, number_field(3, model_type) + number_field(40, unknown));
  return out + bytes_field(3, bytes_field(1, "test") + bytes_field(2, charsmap));
}

// <pad>, </s>, <unk>, then the given pieces.
inline std::vector<SentencePiece> small_pieces(const std::vector<SentencePiece>& more) {
  using Kind = SentencePiece::Kind;
  std::vector<SentencePiece> pieces{
      {"<pad>", 0, Kind::control}, {"</s>", 0, Kind::control}, {"<unk>", 0, Kind::unknown}};
  pieces.insert(pieces.end(), more.begin(), more.end());
  return pieces;
}

}  // namespace pendulum
