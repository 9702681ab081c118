// Strict reading of numbers, booleans and words.
#include "config/scalars.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <regex>

#include "config/nearest.h"
#include "core/error.h"

namespace pendulum {
namespace {

// "a number" -> "a number, above 0".
std::string with_range(const std::string& form, const Range& range) {
  const std::string words = range.words();
  return words.empty() ? form : form + ", " + words;
}

// All of the text as one number of this type.
template <class T>
std::errc parse(const std::string& words, T& out) {
  const char* begin = words.data();
  const char* end = begin + words.size();
  // from_chars knows no plus sign; YAML does.
  if (words.size() > 1 && words[0] == '+' && words[1] != '-') ++begin;
  const auto [stop, error] = std::from_chars(begin, end, out);
  if (error == std::errc() && stop != end) return std::errc::invalid_argument;
  return error;
}

template <class T>
T whole(const Value& value, const std::string& path, const Spec& spec, T lowest, T highest) {
  const std::string form = with_range("a whole number", spec.range);
  const std::string& words = plain_text(value, path, form);
  T number = 0;
  const std::errc error = parse(words, number);
  if (error == std::errc::result_out_of_range || (error == std::errc() && number > highest) ||
      (error == std::errc() && number < lowest)) {
    fail(value.place, path,
         text("expected a whole number from ", lowest, " to ", highest, ", found \"", words, "\""));
  }
  if (error != std::errc()) fail_expected(value, path, form);
  check_range(static_cast<double>(number), value, path, "a whole number", spec);
  return number;
}

}  // namespace

void fail_expected(const Value& value, const std::string& path, const std::string& form) {
  fail(value.place, path, "expected " + form + ", found " + found(value));
}

const std::string& plain_text(const Value& value, const std::string& path,
                              const std::string& form) {
  if (value.kind != Value::Kind::scalar || value.quoted) fail_expected(value, path, form);
  return value.text;
}

void check_range(double number, const Value& value, const std::string& path,
                 const std::string& form, const Spec& spec) {
  if (!spec.range.holds(number)) fail_expected(value, path, with_range(form, spec.range));
}

int64_t read_integer(const Value& value, const std::string& path, const Spec& spec, int64_t lowest,
                     int64_t highest) {
  return whole<int64_t>(value, path, spec, lowest, highest);
}

uint64_t read_unsigned(const Value& value, const std::string& path, const Spec& spec) {
  return whole<uint64_t>(value, path, spec, 0, UINT64_MAX);
}

double read_number(const Value& value, const std::string& path, const Spec& spec) {
  const std::string form = with_range("a number", spec.range);
  const std::string& words = plain_text(value, path, form);
  double number = 0;
  // from_chars also reads "inf" and "nan".
  if (parse(words, number) != std::errc() || !std::isfinite(number))
    fail_expected(value, path, form);
  check_range(number, value, path, "a number", spec);
  return number;
}

bool read_bool(const Value& value, const std::string& path) {
  const std::string& words = plain_text(value, path, "true or false");
  if (words != "true" && words != "false") fail_expected(value, path, "true or false");
  return words == "true";
}

std::string read_words(const Value& value, const std::string& path, const Spec& spec) {
  if (value.kind != Value::Kind::scalar) fail_expected(value, path, "a text");
  const bool any = spec.choices.empty();
  if (!any &&
      std::find(spec.choices.begin(), spec.choices.end(), value.text) == spec.choices.end()) {
    fail(value.place, path,
         text("expected one of ", listed(spec.choices), ", found ", found(value),
              did_you_mean(value.text, spec.choices)));
  }
  check_pattern(value.text, value, path, spec);
  return value.text;
}

void check_pattern(const std::string& words, const Value& value, const std::string& path,
                   const Spec& spec) {
  if (!spec.pattern) return;
  // std::regex recurses per character; what is matched here are names and paths.
  constexpr size_t kLongest = 4096;
  if (words.size() > kLongest)
    fail(value.place, path, text("longer than ", kLongest, " characters"));
  if (std::regex_match(words, std::regex(spec.pattern))) return;
  fail(value.place, path, text("expected ", spec.pattern_words, ", found \"", words, "\""));
}

}  // namespace pendulum
