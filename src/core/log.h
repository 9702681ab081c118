// Lines for people on the console: rank 0 speaks, every rank may warn.
#pragma once
#include <fmt/format.h>

#include <string>
#include <utility>

namespace pendulum {

// Sets who speaks: information from rank 0 alone, warnings from all with "[rank r]" in front when
// size > 1.
void set_log_rank(int rank, int size);

// One line to stdout ("12:03:41 ..."), rank 0 only. Clears a live progress line first.
void log_line(const std::string& line);
void warn_line(const std::string& line);

// Replaces the live progress line at the bottom of a terminal; where stdout is no terminal it does
// nothing.
void progress_line(const std::string& line);

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  warn_line(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace pendulum
