// embed/prompt_clean, embed/t5_vocabulary, embed/t5_tokenizer: small vocabularies by hand, and
// files that lie. tests/oracle/umt5_oracle.py compares real ones with transformers.
#include "embed/t5_tokenizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/random.h"
#include "embed/prompt_clean.h"
#include "error_message.h"
#include "spiece_bytes.h"

namespace pendulum {
namespace {

using Tokens = std::vector<int64_t>;
using Kind = SentencePiece::Kind;

// The pieces of a tokenizer.json: pairs, which a braced list would make an object.
nlohmann::json vocabulary(const std::vector<std::pair<std::string, double>>& pieces) {
  return pieces;
}

// Replaces "A" by "b" and "Bx" by nothing: two paths from the root of a trie.
std::string small_charsmap() {
  std::vector<uint32_t> units(1024, 0);
  const auto leaf = [&](uint32_t node, char label, uint32_t start) {
    units[node] = static_cast<uint32_t>(label) | 1U << 8 | 1U << 10;  // offset 1: its neighbour
    units[node ^ 1] = 1U << 31 | start;
  };
  units[0] = 256U << 10;
  leaf(256 ^ 'A', 'A', 0);
  units[256 ^ 'B'] = 'B' | ((256U ^ 'B') ^ 512U) << 10;  // on to 512
  leaf(512 ^ 'x', 'x', 1);                               // "": the end of "b"
  units.insert(units.begin(), static_cast<uint32_t>(units.size() * sizeof(uint32_t)));
  const auto* bytes = reinterpret_cast<const char*>(units.data());
  std::string out(bytes, bytes + units.size() * sizeof(uint32_t));
  out += 'b';
  out += '\0';
  return out;
}

T5Tokenizer tokenizer(const std::vector<SentencePiece>& pieces, const std::string& charsmap = "") {
  return T5Tokenizer(
      parse_spiece_model(spiece_bytes(small_pieces(pieces), 2, charsmap), 2, "test"));
}

TEST(PromptClean, UnescapesAsPythonDoes) {
  EXPECT_EQ(html_unescape("&lt;b&gt; &amp;lt; &#60;&#x3C;&#X3c &AMP &notit; &nosuch; &"),
            "<b> &lt; <<< & ¬it; &nosuch; &");
  EXPECT_EQ(html_unescape("&#128;&#0;&#x110000;&#xD800;&#1;&#13;|"), "€\uFFFD\uFFFD\uFFFD\r|");
  EXPECT_EQ(html_unescape("&NotEqualTilde;&#99999999999999999999;"), "\u2242\u0338\uFFFD");
}

TEST(PromptClean, CollapsesWhiteSpaceAndStraightensQuotes) {
  EXPECT_EQ(clean_prompt(" \t a\r\n\u3000b\u00a0 \x1c c \n"), "a b c");
  EXPECT_EQ(clean_prompt("\u201cit\u2019s\u201d &ldquo;so&rdquo;"), "\"it's\" \"so\"");
  EXPECT_EQ(clean_prompt("a\x01\ufeff&amp;amp;b"), "a&b");
  EXPECT_EQ(clean_prompt(""), "");
  EXPECT_EQ(clean_prompt("\xff"), "\uFFFD");
}

TEST(T5Tokenizer, TakesTheMostProbablePieces) {
  const T5Tokenizer t =
      tokenizer({{"▁", -5}, {"▁a", -3}, {"b", -2}, {"ab", -2.5}, {"▁ab", -6}, {"bb", -3}});
  EXPECT_EQ(t.encode("", 9), (Tokens{1}));
  EXPECT_EQ(t.encode("ab", 9), (Tokens{4, 5, 1}));             // -5 before -6 and -7.5
  EXPECT_EQ(t.encode("abb  a\t\n", 9), (Tokens{4, 8, 4, 1}));  // -6 before -7
  EXPECT_EQ(t.encode("aab", 9), (Tokens{4, 6, 1}));            // -5.5
}

TEST(T5Tokenizer, AmongEqualsTheOrderOfSumsDecides) {
  // "▁aaa" as ▁ a aa or ▁ aa a: the sums are equal, and what reaches a place from farther stays.
  const T5Tokenizer t = tokenizer({{"▁", -1}, {"a", -2}, {"aa", -3}});
  EXPECT_EQ(t.encode("aaa", 9), (Tokens{3, 4, 5, 1}));
}

TEST(T5Tokenizer, ARunOfUnknownCharactersIsOneToken) {
  const T5Tokenizer t = tokenizer({{"▁", -5}, {"a", -3}, {"<0x7A>", 0, Kind::byte}});
  EXPECT_EQ(t.encode("zz\u00e9a\U0001F642", 9), (Tokens{3, 2, 4, 2, 1}));
  EXPECT_EQ(t.encode("\xff", 9), (Tokens{3, 2, 1}));
}

TEST(T5Tokenizer, AddedTokensStandForThemselves) {
  const T5Tokenizer t = tokenizer({{"▁", -5}, {"a", -3}, {"▁a", -4}});
  EXPECT_EQ(t.size(), 8);  // with two sentinels
  EXPECT_EQ(t.encode("a</s>a <extra_id_0><extra_id_1> <pad>", 20), (Tokens{5, 1, 5, 7, 6, 0, 1}));
  EXPECT_EQ(t.encode("<unk>", 20), (Tokens{2, 1}));
}

TEST(T5Tokenizer, CutsToTheLimitAndKeepsTheEnd) {
  const T5Tokenizer t = tokenizer({{"▁", -5}, {"▁a", -3}});
  EXPECT_EQ(t.encode("a a a", 4), (Tokens{4, 4, 4, 1}));
  EXPECT_EQ(t.encode("a a a a", 4), (Tokens{4, 4, 4, 1}));
  EXPECT_EQ(t.encode("a a", 1), (Tokens{1}));
}

TEST(T5Tokenizer, NormalisesByTheModelsTable) {
  const T5Tokenizer t = tokenizer({{"▁", -5}, {"b", -3}, {"A", -3}, {"B", -3}}, small_charsmap());
  EXPECT_EQ(t.encode("AbB", 9), (Tokens{3, 4, 4, 6, 1}));
  // One cluster of three bytes that begins with "A": the mark goes with it.
  EXPECT_EQ(t.encode("A\u0301b", 9), (Tokens{3, 4, 4, 1}));
  // "Bx" are two clusters, neither of which is in the table.
  EXPECT_EQ(t.encode("Bx", 9), (Tokens{3, 6, 2, 1}));
}

TEST(T5Vocabulary, NamesWhatIsWrong) {
  const auto spiece = [](const std::string& bytes) {
    return message_of<DataError>([&] { parse_spiece_model(bytes, 3, "x/spiece.model"); });
  };
  const auto pieces = small_pieces({{"▁a", -3}});
  EXPECT_EQ(spiece(spiece_bytes(pieces)), "no error");
  for (const std::string& bad :
       {spiece(""), spiece("not a model"), spiece(spiece_bytes(pieces, 1)),
        spiece(spiece_bytes(pieces, 77)), spiece(spiece_bytes(pieces, 2, "", 2)),
        spiece(spiece_bytes(pieces, 2, "short")), spiece(varint(1 << 3 | 2) + varint(1ULL << 62)),
        spiece(spiece_bytes({{"<unk>", 0, Kind::unknown}}, 0))}) {
    EXPECT_NE(bad.find("x/spiece.model"), std::string::npos) << bad;
  }
  const auto json = [](const std::string& bytes) {
    return message_of<DataError>([&] { parse_tokenizer_json(bytes, "x/tokenizer.json"); });
  };
  nlohmann::json good = {
      {"model",
       {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocabulary({{"<unk>", 0}, {"</s>", 0}})}}},
      {"normalizer", nullptr},
      {"added_tokens", nlohmann::json::array()}};
  EXPECT_EQ(json(good.dump()), "no error");
  const auto changed = [&](const char* at, const nlohmann::json& value) {
    nlohmann::json copy = good;
    copy[nlohmann::json::json_pointer(at)] = value;
    return json(copy.dump());
  };
  for (const std::string& bad :
       {json("{"), json("[]"), changed("/model/type", "BPE"), changed("/model/unk_id", 2),
        changed("/model/vocab", vocabulary({{"<unk>", 0}})), changed("/model/vocab", 3),
        changed("/added_tokens",
                nlohmann::json::array({{{"content", "x"}, {"id", 1}, {"normalized", true}}})),
        changed("/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", "!!"}})}) {
    EXPECT_NE(bad.find("x/tokenizer.json"), std::string::npos) << bad;
  }
}

TEST(T5Vocabulary, TokenizerJsonSaysHowAddedTokensTakeSpace) {
  const nlohmann::json file = {
      {"model",
       {{"type", "Unigram"},
        {"unk_id", 0},
        {"vocab", vocabulary({{"<unk>", 0}, {"</s>", 0}, {"▁a", -1}, {"▁", -2}})}}},
      {"added_tokens", nlohmann::json::array(
                           {{{"content", "<x>"}, {"id", 9}, {"lstrip", true}, {"rstrip", true}}})}};
  const T5Tokenizer t(parse_tokenizer_json(file.dump(), "test"));
  EXPECT_EQ(t.encode("a \u3000<x>\n <x>a", 9), (Tokens{2, 9, 9, 2, 1}));
  EXPECT_EQ(t.size(), 10);
}

// Bytes cut off or changed anywhere give an error or another vocabulary, never a crash.
TEST(T5Vocabulary, SurvivesDamage) {
  const std::string good = spiece_bytes(small_pieces({{"▁", -5}, {"b", -3}, {"A", -3}, {"ab", -2}}),
                                        2, small_charsmap());
  int usable = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    std::string bytes = good;
    if (i % 3 == 0) bytes.resize(draw(1, i) % good.size());
    for (uint64_t k = 0; k < i % 4 && !bytes.empty(); ++k) {
      const uint64_t bits = draw(2, 8 * i + k);
      bytes[(bits >> 8) % bytes.size()] = static_cast<char>(bits);
    }
    try {
      const T5Tokenizer t(parse_spiece_model(bytes, 1, "test"));
      for (const int64_t token : t.encode("AbB A\u0301 ab <extra_id_0> \U0001F642", 30)) {
        ASSERT_GE(token, 0);
        ASSERT_LT(token, t.size());
      }
      ++usable;
    } catch (const DataError&) {
    }
  }
  EXPECT_GT(usable, 1000);
}

}  // namespace
}  // namespace pendulum
