// What a test says of the error that it provokes.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/error.h"

namespace pendulum {

// The message of the error of this kind that the action ends with, "no error" where it ends with
// none. Errors of another kind pass.
template <class Kind = ConfigError>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Kind& error) {
    return error.what();
  }
  return "no error";
}

inline bool mentions(const std::string& whole, const std::string& part) {
  return whole.find(part) != std::string::npos;
}

// One paragraph with all of these in it.
inline void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const std::string& part : parts)
    EXPECT_TRUE(mentions(message, part)) << message << "\nlacks: " << part;
}

}  // namespace pendulum
