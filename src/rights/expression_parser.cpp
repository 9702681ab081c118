// Tokens, then recursive descent; every token knows its column.
#include "rights/expression_parser.h"

#include <algorithm>
#include <cctype>

#include "config/nearest.h"
#include "core/error.h"

namespace pendulum {
namespace {

using Node = Expression::Node;

enum class FieldKind { words, day, territory, release, flag, consent };

FieldKind kind_of(const std::string& field) {
  if (field == "expiry") return FieldKind::day;
  if (field == "territory") return FieldKind::territory;
  if (field == "editorial_only") return FieldKind::flag;
  if (field.starts_with("releases.")) return FieldKind::release;
  if (field.starts_with("consent.")) return FieldKind::consent;
  return FieldKind::words;
}

const std::vector<std::string>& fields() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> out = {
        "licence",           "holder",        "basis", "expiry", "territory", "releases.model",
        "releases.property", "editorial_only"};
    for (const std::string& entry : kConsentEntries) out.push_back("consent." + entry);
    return out;
  }();
  return all;
}

struct Token {
  std::string text;  // without quotes
  size_t begin = 0;  // in the source
  size_t end = 0;
  bool is_quoted = false;
  bool is_word = false;  // a name, an identifier, a day
  bool is_end = false;
};

class Parser {
 public:
  Parser(const std::string& source, const std::string& key) : source_(source), key_(key) {
    tokenise();
  }

  std::shared_ptr<const Node> whole() {
    const auto root = either(false);
    if (!now().is_end) fail("expected `and`, `or` or the end");
    return root;
  }

 private:
  [[noreturn]] void fail(const std::string& expected, const std::string& hint = "") const {
    throw ConfigError(text(key_, ", column ", now().begin + 1, ": ", expected, ", found ",
                           now().is_end ? "the end" : "\"" + now().text + "\"", hint, ": ",
                           source_));
  }

  void tokenise() {
    size_t i = 0;
    const auto is_letter = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
    };
    while (i < source_.size()) {
      const size_t begin = i;
      const char c = source_[i];
      if (std::isspace(static_cast<unsigned char>(c))) {
        ++i;
        continue;
      }
      Token token;
      token.begin = begin;
      if (c == '"' || c == '\'') {
        const size_t close = source_.find(c, i + 1);
        if (close == std::string::npos)
          throw ConfigError(text(key_, ", column ", begin + 1, ": the text that begins with ", c,
                                 " has no end: ", source_));
        token.text = source_.substr(i + 1, close - i - 1);
        token.is_quoted = true;
        i = close + 1;
      } else if (is_letter(c) && c != '-') {
        while (i < source_.size() && is_letter(source_[i])) ++i;
        // "GPL-2.0+" closes with a plus; after a day it begins a sum.
        const std::string word = source_.substr(begin, i - begin);
        if (i < source_.size() && source_[i] == '+' && word != "as_of" && !parse_date(word)) ++i;
        token.text = source_.substr(begin, i - begin);
        token.is_word = true;
      } else {
        const bool is_pair = i + 1 < source_.size() && source_[i + 1] == '=' &&
                             std::string("=!<>").find(c) != std::string::npos;
        token.text = source_.substr(i, is_pair ? 2 : 1);
        i += token.text.size();
      }
      token.end = i;
      tokens_.push_back(token);
    }
    Token end;
    end.begin = end.end = source_.size();
    end.is_end = true;
    tokens_.push_back(end);
  }

  const Token& now() const { return tokens_[at_]; }
  bool is(const char* word) const {
    return !now().is_end && !now().is_quoted && now().text == word;
  }
  bool take(const char* word) {
    if (!is(word)) return false;
    ++at_;
    return true;
  }
  void require(const char* word) {
    if (!take(word)) fail(text("expected \"", word, "\""));
  }

  // not (a and b) is (not a) or (not b), in Kleene's logic too.
  std::shared_ptr<const Node> either(bool negated) { return chain("or", negated); }
  std::shared_ptr<const Node> chain(const char* word, bool negated) {
    const bool is_or = std::string(word) == "or";
    const auto part = [&] { return is_or ? chain("and", negated) : opposite(negated); };
    std::vector<std::shared_ptr<const Node>> parts{part()};
    while (take(word)) parts.push_back(part());
    if (parts.size() == 1) return parts[0];
    Node node;
    node.kind = is_or != negated ? Node::Kind::any : Node::Kind::all;
    node.parts = std::move(parts);
    return std::make_shared<const Node>(std::move(node));
  }

  std::shared_ptr<const Node> opposite(bool negated) {
    if (++depth_ > 100) fail("expected fewer than 100 levels of brackets and `not`");
    std::shared_ptr<const Node> out;
    if (take("not")) {
      out = opposite(!negated);
    } else if (take("(")) {
      out = either(negated);
      require(")");
    } else {
      out = test(negated);
    }
    --depth_;
    return out;
  }

  std::shared_ptr<const Node> test(bool negated) {
    const size_t begin = now().begin;
    Node node;
    node.test.field = field();
    node.test.is_negated = negated;
    condition(node.test);
    node.test.words = source_.substr(begin, tokens_[at_ - 1].end - begin);
    return std::make_shared<const Node>(std::move(node));
  }

  std::string field() {
    const std::string name = now().text;
    const auto& known = fields();
    if (now().is_word && std::find(known.begin(), known.end(), name) != known.end()) {
      ++at_;
      return name;
    }
    fail("expected a field", now().is_word
                                 ? did_you_mean(name, known) + " (valid: " + listed(known) + ")"
                                 : " (valid: " + listed(known) + ")");
  }

  void condition(Test& test) {
    const FieldKind kind = kind_of(test.field);
    if (kind == FieldKind::territory) {
      if (!take("includes")) fail("expected `includes` after territory");
      test.compare = Compare::includes;
      test.values = is("[") ? list(test.field) : std::vector{value(test.field)};
      return;
    }
    if (kind == FieldKind::day) return day_condition(test);
    if (kind == FieldKind::flag && !is("==") && !is("!=")) {
      test.compare = Compare::equal;
      test.values = {"true"};
      return;
    }
    if (take("==")) {
      test.compare = Compare::equal;
      test.values = {value(test.field)};
    } else if (take("!=")) {
      test.compare = Compare::not_equal;
      test.values = {value(test.field)};
    } else if (kind != FieldKind::flag && (is("in") || is("not"))) {
      test.compare = take("not") ? Compare::not_in : Compare::in;
      require("in");
      test.values = list(test.field);
    } else {
      fail(text("expected ==, !=, in or not in after ", test.field));
    }
  }

  void day_condition(Test& test) {
    static const std::vector<std::pair<const char*, Compare>> kinds = {
        {"==", Compare::equal},    {"!=", Compare::not_equal}, {"<=", Compare::at_most},
        {">=", Compare::at_least}, {"<", Compare::less},       {">", Compare::more}};
    for (const auto& [word, compare] : kinds) {
      if (!take(word)) continue;
      test.compare = compare;
      test.day = day();
      return;
    }
    fail("expected one of ==, !=, <, <=, >, >= after expiry");
  }

  DayTerm day() {
    DayTerm term;
    const size_t begin = now().begin;
    const auto date = parse_date(now().text);
    if (!now().is_word || !(date || is("as_of") || is("never")))
      fail("expected a day: as_of, never or one such as 2027-03-31");
    term.is_relative = is("as_of");
    if (!term.is_relative) term.date = date ? *date : kNever;
    ++at_;
    if (is("+") || is("-")) {
      if (term.date == kNever) fail("expected nothing to be added to never");
      const int64_t sign = is("+") ? 1 : -1;
      ++at_;
      term.offset = sign * days();
    }
    term.words = source_.substr(begin, tokens_[at_ - 1].end - begin);
    return term;
  }

  int64_t days() {
    const std::string words = now().text;
    const bool has_form = now().is_word && words.size() >= 2 && words.size() <= 7 &&
                          words.back() == 'd' &&
                          words.find_first_not_of("0123456789") == words.size() - 1;
    if (!has_form) fail("expected a number of days such as 365d");
    ++at_;
    return std::stoll(words);
  }

  std::vector<std::string> list(const std::string& field) {
    require("[");
    std::vector<std::string> out{value(field)};
    while (take(",")) out.push_back(value(field));
    if (!take("]")) fail("expected \",\" or \"]\" in the list");
    return out;
  }

  std::string value(const std::string& field) {
    if (!now().is_word && !now().is_quoted) fail(text("expected a value for ", field));
    const std::string word = now().text;
    const auto one_of = [&](const std::vector<std::string>& words) {
      if (std::find(words.begin(), words.end(), word) == words.end())
        fail(text("expected one of ", listed(words), " for ", field), did_you_mean(word, words));
    };
    switch (kind_of(field)) {
      case FieldKind::release:
        one_of(kReleaseWords);
        break;
      case FieldKind::consent:
        one_of(kConsentWords);
        break;
      case FieldKind::flag:
        one_of({"true", "false"});
        break;
      case FieldKind::territory:
        if (word != "worldwide" &&
            !(word.size() == 2 && std::isupper(word[0]) && std::isupper(word[1])))
          fail("expected worldwide or a two-letter country code such as DE");
        break;
      case FieldKind::words:
      case FieldKind::day:
        if (word.empty()) fail(text("expected a text that is not empty for ", field));
        break;
    }
    ++at_;
    return word;
  }

  const std::string& source_;
  const std::string& key_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::shared_ptr<const Node> parse_expression(const std::string& source, const std::string& key) {
  return Parser(source, key).whole();
}

}  // namespace pendulum
