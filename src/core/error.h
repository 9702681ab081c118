// The three kinds of failure: our bug (check), the user's mistake (ConfigError), the world's fault
// (Error, DataError).
#pragma once
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace pendulum {

// Base of every error this program throws. what() is one readable paragraph.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A mistake in what the user asked for: file, line and key are named in the text. Exit code 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

// Data on disk that is not what it should be: the path is named in the text.
class DataError : public Error {
 public:
  using Error::Error;
};

// Joins its arguments as a stream would: text("rank ", 3, " of ", 4).
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// The expectation and the place where it was written down.
struct Expectation {
  const char* words;
  std::source_location where;
  // NOLINTNEXTLINE(google-explicit-constructor): a literal at the call becomes the expectation.
  Expectation(const char* w, std::source_location l = std::source_location::current())
      : words(w), where(l) {}
};

// Throws Error when a fact that this program guarantees does not hold. `parts` are the values
// found:
//   check(heads % ranks == 0, "heads divide over ranks: ", heads, " over ", ranks);
template <class... Parts>
void check(bool holds, Expectation expected, const Parts&... parts) {
  if (holds) return;
  throw Error(text("internal error at ", expected.where.file_name(), ":", expected.where.line(),
                   ": expected ", expected.words, parts...));
}

}  // namespace pendulum
