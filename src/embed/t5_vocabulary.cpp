// Two forms of the same: tokenizer.json says all of it, spiece.model leaves the sentinels to a
// convention.
#include "embed/t5_vocabulary.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_file.h"
#include "embed/sentencepiece_model.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kEnd = "</s>";

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(text(path, ": cannot be opened for reading"));
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw DataError(text(path, ": reading failed before its end"));
  return bytes;
}

std::string decode_base64(const std::string& encoded, const std::string& name) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : encoded) {
    if (c == '=') break;
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos)
      throw DataError(text(name, ": its table of normal forms is not base64"));
    bits = bits << 6 | static_cast<uint32_t>(digit);
    held += 6;
    if (held >= 8) out += static_cast<char>(bits >> (held -= 8) & 0xFF);
  }
  return out;
}

// The first normalizer of this type, which may stand in a sequence; null where there is none.
json find_charsmap(const json& normalizer) {
  if (!normalizer.is_object()) return nullptr;
  if (normalizer.value("type", "") == "Precompiled") return normalizer.at("precompiled_charsmap");
  if (normalizer.value("type", "") != "Sequence") return nullptr;
  for (const json& part : normalizer.at("normalizers")) {
    if (json found = find_charsmap(part); !found.is_null()) return found;
  }
  return nullptr;
}

AddedToken added_token(const json& entry, const std::string& name) {
  const auto is_set = [&](const char* key) { return entry.value(key, false); };
  AddedToken token{entry.at("content").get<std::string>(), entry.at("id").get<int64_t>(),
                   is_set("lstrip"), is_set("rstrip")};
  if (is_set("single_word") || is_set("normalized") || token.text.empty()) {
    throw DataError(text(name, ": the added token '", token.text,
                         "' is to be found in normalised text or as a single word; only those "
                         "that are found anywhere in the text as it was given are supported"));
  }
  return token;
}

int64_t end_token(const T5Vocabulary& vocabulary, const std::string& name) {
  const auto& pieces = vocabulary.pieces;
  const auto found =
      std::find_if(pieces.begin(), pieces.end(), [](const auto& p) { return p.first == kEnd; });
  if (found == pieces.end()) throw DataError(text(name, ": has no ", kEnd));
  return found - pieces.begin();
}

}  // namespace

T5Vocabulary parse_tokenizer_json(std::string_view bytes, const std::string& name) {
  const json file = json::parse(bytes, nullptr, false);
  if (!file.is_object()) throw DataError(text(name, ": is not a JSON object"));
  try {
    const json& model = file.at("model");
    if (model.at("type") != "Unigram")
      throw DataError(text(name, ": is a tokenizer of another type than Unigram"));
    T5Vocabulary vocabulary;
    for (const json& piece : model.at("vocab"))
      vocabulary.pieces.emplace_back(piece.at(0).get<std::string>(), piece.at(1).get<double>());
    vocabulary.unknown = model.at("unk_id").get<int64_t>();
    if (vocabulary.unknown < 0 ||
        vocabulary.unknown >= static_cast<int64_t>(vocabulary.pieces.size())) {
      throw DataError(text(name, ": its unknown token ", vocabulary.unknown, " is none of the ",
                           vocabulary.pieces.size(), " pieces"));
    }
    vocabulary.end = end_token(vocabulary, name);
    if (const json charsmap = find_charsmap(file.value("normalizer", json())); !charsmap.is_null())
      vocabulary.charsmap = Charsmap(decode_base64(charsmap.get<std::string>(), name), name);
    for (const json& entry : file.at("added_tokens"))
      vocabulary.added.push_back(added_token(entry, name));
    return vocabulary;
  } catch (const json::exception& error) {
    throw DataError(text(name, ": is not a tokenizer's file: ", error.what()));
  }
}

T5Vocabulary parse_spiece_model(std::string_view bytes, int sentinels, const std::string& name) {
  const SentencePieceModel model = parse_sentencepiece_model(bytes, name);
  T5Vocabulary vocabulary{.unknown = model.unknown, .charsmap = {model.charsmap, name}};
  for (const SentencePiece& piece : model.pieces) {
    const auto token = static_cast<int64_t>(vocabulary.pieces.size());
    using Kind = SentencePiece::Kind;
    if (piece.kind == Kind::unknown || piece.kind == Kind::control ||
        piece.kind == Kind::user_defined) {
      vocabulary.added.push_back({piece.text, token});
    }
    vocabulary.pieces.emplace_back(piece.text, piece.score);
  }
  vocabulary.end = end_token(vocabulary, name);
  for (int i = sentinels - 1; i >= 0; --i) {
    const std::string sentinel = text("<extra_id_", i, ">");
    vocabulary.added.push_back({sentinel, static_cast<int64_t>(vocabulary.pieces.size())});
    vocabulary.pieces.emplace_back(sentinel, 0.0);
  }
  return vocabulary;
}

std::string find_t5_vocabulary(const std::string& folder) {
  for (const char* name : {"tokenizer.json", "spiece.model"}) {
    const fs::path path = fs::path(folder) / name;
    std::error_code ignored;
    if (fs::is_regular_file(path, ignored)) return path.string();
  }
  return "";
}

T5Vocabulary read_t5_vocabulary(const std::string& path) {
  const std::string bytes = read_file(path);
  if (fs::path(path).extension() == ".json") return parse_tokenizer_json(bytes, path);
  int sentinels = kUmt5Sentinels;
  const std::string config_path = (fs::path(path).parent_path() / "tokenizer_config.json").string();
  if (fs::exists(config_path)) {
    const json config = read_json(config_path);
    if (!config.is_object()) throw DataError(text(config_path, ": is not a JSON object"));
    const json number = config.value("extra_ids", json(static_cast<unsigned>(kUmt5Sentinels)));
    if (!number.is_number_unsigned() || number.get<uint64_t>() > 100'000)
      throw DataError(text(config_path, ": extra_ids is ", number.dump()));
    sentinels = number.get<int>();
  }
  return parse_spiece_model(bytes, sentinels, path);
}

}  // namespace pendulum
