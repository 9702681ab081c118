// What is said about one key beside its type and default: range, choices, documentation.
#pragma once
#include <fmt/format.h>

#include <limits>
#include <string>
#include <vector>

namespace pendulum {

// Numbers that a key accepts; of a list or map, that its elements do.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool open_low = false;   // low itself is refused
  bool open_high = false;  // high itself is refused

  bool holds(double x) const {
    return (open_low ? x > low : x >= low) && (open_high ? x < high : x <= high);
  }
  // "at least 1", "above 0, at most 1"; empty without bounds.
  std::string words() const {
    std::string out;
    if (low == high) return fmt::format("exactly {}", low);
    if (low > -std::numeric_limits<double>::infinity()) {
      out = fmt::format("{} {}", open_low ? "above" : "at least", low);
    }
    if (high < std::numeric_limits<double>::infinity()) {
      out += fmt::format("{}{} {}", out.empty() ? "" : ", ", open_high ? "below" : "at most", high);
    }
    return out;
  }
};

inline Range at_least(double low) { return {.low = low}; }
inline Range above(double low) { return {.low = low, .open_low = true}; }
inline Range between(double low, double high) { return {.low = low, .high = high}; }

// Patterns, and the words for them.
inline constexpr const char* kName = "[A-Za-z][A-Za-z0-9_-]*";
inline constexpr const char* kNameWords =
    "a name of letters, digits, - and _ that begins with a letter";
inline constexpr const char* kFileName = "[A-Za-z0-9][A-Za-z0-9._-]*";
inline constexpr const char* kFileNameWords =
    "a name of letters, digits, ., - and _ that begins with a letter or digit";
inline constexpr const char* kSomething = R"([\s\S]*\S[\s\S]*)";
inline constexpr const char* kSomethingWords = "a text that is not empty";

struct Flops {  // "20 TFLOP" or 2e13
  double& count;
};

struct Spec {
  const char* key = "";
  Range range{};
  std::vector<std::string> choices{};  // of a text
  const char* pattern = nullptr;   // regular expression that a text, or each key of a map, matches
  const char* pattern_words = "";  // the pattern for people
  const char* unset = nullptr;     // the word for "no value" of an optional number
  const char* unit = "";           // of a number
  int length = 0;                  // of a list that is not empty: exact; 0: any
  bool filled = false;             // a list or map holds at least one
  bool required = false;
  bool may_change = false;  // on resume; for a section, all of it
  bool quiet = false;       // printed only where it differs from its default
  const char* help = "";
};

}  // namespace pendulum
