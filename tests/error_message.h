// What a test says of the error that it provokes.
#pragma once
#include <functional>
#include <string>

#include "core/error.h"

namespace pendulum {

// The message of the ConfigError that the action ends with.
inline std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

inline bool mentions(const std::string& whole, const std::string& part) {
  return whole.find(part) != std::string::npos;
}

}  // namespace pendulum
