// Walks the fields of the protocol buffer; those that do not matter here are stepped over.
//
// Not libsentencepiece: it sums scores in fp32 and normalises combining marks otherwise than
// transformers' tokenizer does, so that of its work only this parsing would be left
// (tests/oracle/umt5_oracle.py prints how many texts it cuts differently).
#include "embed/sentencepiece_model.h"

#include <bit>
#include <cstring>

#include "core/error.h"

namespace pendulum {
namespace {

// Field numbers and values of sentencepiece_model.proto.
constexpr uint32_t kModelPieces = 1, kModelTrainer = 2, kModelNormalizer = 3;
constexpr uint32_t kPieceText = 1, kPieceScore = 2, kPieceKind = 3;
constexpr uint32_t kTrainerModelType = 3, kTrainerUnknown = 40;
constexpr uint32_t kNormalizerCharsmap = 2;
constexpr uint64_t kUnigram = 1;

struct Field {
  uint32_t number = 0;
  uint64_t integer = 0;      // of a varint or a fixed-width number
  std::string_view bytes{};  // of a string or a message
};

// Gives a message's fields one after the other.
class Message {
 public:
  Message(std::string_view bytes, const std::string& name) : left_(bytes), name_(&name) {}

  bool next(Field& field) {
    if (left_.empty()) return false;
    const uint64_t tag = varint();
    field = {.number = static_cast<uint32_t>(tag >> 3)};
    switch (tag & 7) {
      case 0:
        field.integer = varint();
        return true;
      case 1:
        field.integer = fixed(8);
        return true;
      case 2:
        field.bytes = take(varint());
        return true;
      case 5:
        field.integer = fixed(4);
        return true;
      default:
        refuse();
    }
  }

 private:
  [[noreturn]] void refuse() const {
    throw DataError(text(*name_, ": is damaged or not a SentencePiece model"));
  }
  std::string_view take(uint64_t count) {
    if (count > left_.size()) refuse();
    const std::string_view out = left_.substr(0, count);
    left_.remove_prefix(count);
    return out;
  }
  uint64_t fixed(size_t count) {
    uint64_t out = 0;
    static_assert(std::endian::native == std::endian::little);
    std::memcpy(&out, take(count).data(), count);
    return out;
  }
  uint64_t varint() {
    uint64_t out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      out |= uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return out;
    }
    refuse();
  }

  std::string_view left_;
  const std::string* name_;
};

SentencePiece parse_piece(std::string_view bytes, const std::string& name) {
  SentencePiece piece;
  Message message(bytes, name);
  for (Field field; message.next(field);) {
    if (field.number == kPieceText) piece.text = field.bytes;
    if (field.number == kPieceScore)
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.integer));
    if (field.number == kPieceKind) piece.kind = static_cast<SentencePiece::Kind>(field.integer);
  }
  return piece;
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  uint64_t type = kUnigram;
  Message message(bytes, name);
  for (Field field; message.next(field);) {
    if (field.number == kModelPieces) model.pieces.push_back(parse_piece(field.bytes, name));
    Message inner(field.bytes, name);
    if (field.number == kModelTrainer) {
      for (Field setting; inner.next(setting);) {
        if (setting.number == kTrainerModelType) type = setting.integer;
        if (setting.number == kTrainerUnknown)
          model.unknown = static_cast<int32_t>(setting.integer);
      }
    } else if (field.number == kModelNormalizer) {
      for (Field setting; inner.next(setting);) {
        if (setting.number == kNormalizerCharsmap) model.charsmap = setting.bytes;
      }
    }
  }
  if (model.pieces.empty()) throw DataError(text(name, ": is no SentencePiece model, or empty"));
  if (type != kUnigram)
    throw DataError(text(name, ": is a SentencePiece model of another type than unigram"));
  const auto count = static_cast<int64_t>(model.pieces.size());
  if (model.unknown < 0 || model.unknown >= count ||
      model.pieces[model.unknown].kind != SentencePiece::Kind::unknown) {
    throw DataError(
        text(name, ": piece ", model.unknown, " of ", count, " should stand for what is unknown"));
  }
  return model;
}

}  // namespace pendulum
