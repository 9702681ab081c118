// embed/wordpiece and embed/unicode: token numbers known from the published tokenizer, and what
// captions may hold beside words. tests/oracle/minilm_oracle.py compares far more texts.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "embed/text_encoder.h"
#include "embed/unicode.h"
#include "embed/wordpiece.h"

namespace pendulum {
namespace {

using Tokens = std::vector<int64_t>;

std::string write_vocabulary(const std::string& lines) {
  const std::string path = testing::TempDir() + "vocabulary" + std::to_string(::getpid()) + ".txt";
  std::ofstream(path) << lines;
  return path;
}

std::string normal(const std::string& words) {
  return encode_utf8(bert_normal_form(decode_utf8(words)));
}

const WordPiece& published() {
  static const WordPiece tokenizer(find_text_weights({}, default_environments()) + "/vocab.txt");
  return tokenizer;
}

TEST(WordPiece, LongestPieceFirstAndUnknownWordsWhole) {
  const WordPiece tokenizer(
      write_vocabulary("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nmove\n##s\n##me\n##ment\nm\n"));
  EXPECT_EQ(tokenizer.size(), 10);
  EXPECT_EQ(tokenizer.encode("Moves MOVEMENT move", 16), (Tokens{2, 5, 6, 5, 8, 5, 3}));
  EXPECT_EQ(tokenizer.encode("movex move", 16), (Tokens{2, 1, 5, 3}));
  EXPECT_EQ(tokenizer.encode(std::string(100, 'm') + " m", 16), (Tokens{2, 1, 9, 3}));
  EXPECT_EQ(tokenizer.encode(std::string(101, 'm'), 16), (Tokens{2, 1, 3}));
}

TEST(WordPiece, CutsTheEndAndKeepsTheSeparator) {
  std::string words;
  for (int i = 0; i < 600; ++i) words += "red ";
  for (const int limit : {2, 3, 31, 32, 512}) {
    const Tokens tokens = published().encode(words, limit);
    ASSERT_EQ(static_cast<int>(tokens.size()), limit);
    EXPECT_EQ(tokens.front(), 101);
    EXPECT_EQ(tokens.back(), 102);
  }
  EXPECT_THROW(published().encode("red", 1), Error);
}

TEST(WordPiece, NumbersOfThePublishedTokenizer) {
  const std::pair<const char*, Tokens> known[] = {
      {"a red square moves left", {101, 1037, 2417, 2675, 5829, 2187, 102}},
      {"Café naïve — ÉTÉ!", {101, 7668, 15743, 1517, 3802, 2063, 999, 102}},
      {"红色方块 moves", {101, 100, 100, 1863, 100, 5829, 102}},
      {"unaffordable 3.14", {101, 14477, 4246, 8551, 3085, 1017, 1012, 2403, 102}},
      {"", {101, 102}},
      {" ", {101, 102}},
      {"🙂 ok", {101, 100, 7929, 102}},
      {"[SEP] x [sep]", {101, 102, 1060, 1031, 19802, 1033, 102}},
  };
  for (const auto& [words, tokens] : known)
    EXPECT_EQ(published().encode(words, 32), tokens) << words;
  EXPECT_EQ(published().encode(std::string_view("\0a\7b\tc", 6), 32),
            (Tokens{101, 11113, 1039, 102}));
}

TEST(WordPiece, BytesThatAreNotUtf8AreIgnored) {
  EXPECT_EQ(published().encode("re\xFF\xC3"
                               "d",
                               8),
            published().encode("red", 8));
  EXPECT_EQ(published().encode("\xED\xA0\x80red\xF4\x90\x80\x80", 8), published().encode("red", 8));
  EXPECT_EQ(published().encode("red\xE2\x82", 8), published().encode("red", 8));
}

TEST(WordPiece, RefusesWhatIsNoVocabulary) {
  EXPECT_THROW(WordPiece("/nowhere/vocab.txt"), DataError);
  EXPECT_THROW(WordPiece(write_vocabulary("a\nb\n")), DataError);
  EXPECT_THROW(WordPiece(write_vocabulary("")), DataError);
}

TEST(Unicode, NormalForm) {
  EXPECT_EQ(normal("ÀÉÎõü Çà"), "aeiou ca");
  EXPECT_EQ(normal("a\u0301\u200B\u00A0b\r\n"), "a b  ");
  EXPECT_EQ(normal("가"), "\u1100\u1161");
  EXPECT_EQ(normal("a红b"), "a 红 b");
  EXPECT_EQ(normal("\u1F82"), "\u03B1");
  EXPECT_EQ(normal(""), "");
  EXPECT_EQ(decode_utf8("a\xFF"), U"a\uFFFD");
}

TEST(Unicode, Punctuation) {
  for (const char32_t c : U"!/:@[`{~$+<=>^|\u2014\u3002\u00BF") {
    EXPECT_EQ(is_bert_punctuation(c), c != 0)
        << static_cast<uint32_t>(c);  // the literal ends with 0
  }
  for (const char32_t c : U"09azAZ \u20AC\u00D7\u2190\u2E43\x7F")
    EXPECT_FALSE(is_bert_punctuation(c));
}

// Reads a JSON list of texts, writes the list of their token numbers.
int tokenize(char** arguments) {
  const WordPiece tokenizer(arguments[1]);
  std::ifstream in(arguments[2]);
  nlohmann::json out = nlohmann::json::array();
  for (const auto& words : nlohmann::json::parse(in)) {
    out.push_back(tokenizer.encode(words.get<std::string>(), std::stoi(arguments[4])));
  }
  return (std::ofstream(arguments[3]) << out).good() ? 0 : 1;
}

}  // namespace
}  // namespace pendulum

// With arguments VOCABULARY IN OUT LIMIT the program tokenizes, for the oracle test to judge.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 5) return pendulum::tokenize(argv);
  return RUN_ALL_TESTS();
}
