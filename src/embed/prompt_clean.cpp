// Character references, quotes, white space.
#include "embed/prompt_clean.h"

#include <algorithm>

#include "embed/html_entities.h"
#include "embed/unicode.h"

namespace pendulum {
namespace {

constexpr size_t kLongestName = 32;  // code points that Python's regular expression looks at

// What browsers make of the references &#128; to &#159;: Windows-1252.
constexpr char32_t kWindows1252[32] = {
    0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};

bool is_noncharacter(char32_t c) { return (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE; }

// The text of a numeric reference; empty for what may not appear in HTML.
std::u32string referenced(char32_t number) {
  if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number <= 0xDFFF)) return U"\uFFFD";
  if (number >= 0x80 && number <= 0x9F) return {kWindows1252[number - 0x80]};
  const bool is_control =
      (number < 0x20 && !(number == '\t' || number == '\n' || number == '\f' || number == '\r')) ||
      number == 0x7F;
  if (is_control || is_noncharacter(number)) return {};
  return {number};
}

// -1 for what is no digit.
int digit_of(char32_t c, int base) {
  int digit = -1;
  if (c >= '0' && c <= '9') digit = static_cast<int>(c - '0');
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') digit = static_cast<int>(c | 0x20) - 'a' + 10;
  return digit < base ? digit : -1;
}

// Reads "#60;" or "#x3c;" at the front of `text`, appends its text and gives its length; 0 where
// there is no such reference.
size_t unescape_number(std::u32string_view text, std::u32string& out) {
  size_t at = 1;
  const int base = at < text.size() && (text[at] | 0x20) == 'x' ? 16 : 10;
  if (base == 16) ++at;
  const size_t first = at;
  char32_t number = 0;
  for (; at < text.size() && digit_of(text[at], base) >= 0; ++at)
    number = std::min<char32_t>(number * base + digit_of(text[at], base), 0x110000);
  if (at == first) return 0;
  out += referenced(number);
  return at < text.size() && text[at] == ';' ? at + 1 : at;
}

// The same for "lt;" or, where a name begins with one that needs no semicolon, as much as that.
size_t unescape_name(std::u32string_view text, std::u32string& out) {
  size_t end = 0;
  while (end < std::min(text.size(), kLongestName) &&
         std::u32string_view(U"\t\n\f <&#;").find(text[end]) == std::u32string_view::npos) {
    ++end;
  }
  if (end == 0) return 0;
  const bool has_semicolon = end < text.size() && text[end] == ';';
  const std::string name = encode_utf8(text.substr(0, has_semicolon ? end + 1 : end));
  if (const std::u32string* found = html_entity(name)) {
    out += *found;
    return has_semicolon ? end + 1 : end;
  }
  for (size_t length = has_semicolon ? end : end - 1; length > 1; --length) {
    const std::u32string* found = html_entity(encode_utf8(text.substr(0, length)));
    if (!found) continue;
    out += *found;
    return length;
  }
  return 0;
}

std::u32string unescape(std::u32string_view text) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = text[at++];
    size_t used = 0;
    if (c == '&' && at < text.size()) {
      const std::u32string_view rest = text.substr(at);
      used = rest[0] == '#' ? unescape_number(rest, out) : unescape_name(rest, out);
    }
    if (used == 0) out += c;
    at += used;
  }
  return out;
}

// Python's str.isspace, which takes the four separators of ASCII for white space too.
bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

bool is_removed_control(char32_t c) {
  return c < 0x09 || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
         (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

std::u32string repair(std::u32string_view text) {
  std::u32string out;
  for (const char32_t c : text) {
    if (c == 0x02BC || (c >= 0x2018 && c <= 0x201B)) {
      out += U'\'';
    } else if (c >= 0x201C && c <= 0x201F) {
      out += U'"';
    } else if (c >= 0x80 && c <= 0x9F) {
      out += kWindows1252[c - 0x80];
    } else if (!is_removed_control(c)) {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string html_unescape(std::string_view text) {
  return encode_utf8(unescape(decode_utf8(text)));
}

std::string clean_prompt(std::string_view prompt) {
  std::u32string text = decode_utf8(prompt);
  // ftfy takes what holds a '<' for HTML, which it leaves alone.
  if (text.find(U'<') == std::u32string::npos) text = unescape(text);
  text = unescape(unescape(repair(text)));
  std::u32string out;
  for (const char32_t c : text) {
    if (!is_python_space(c)) {
      out += c;
    } else if (!out.empty() && out.back() != U' ') {
      out += U' ';
    }
  }
  if (out.ends_with(U' ')) out.pop_back();
  return encode_utf8(out);
}

}  // namespace pendulum
