// The console, shared by all threads of a process.
#include "core/log.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <mutex>

namespace pendulum {
namespace {

struct Console {
  std::mutex mutex;
  int rank = 0;
  int size = 1;
  bool has_progress = false;  // a progress line stands at the bottom
};

Console& console() {
  static Console instance;
  return instance;
}

std::string clock() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char digits[16];
  std::strftime(digits, sizeof digits, "%H:%M:%S", &local);
  return digits;
}

void print(std::FILE* to, const std::string& line) {
  Console& c = console();
  const std::lock_guard lock(c.mutex);
  if (std::exchange(c.has_progress, false)) std::fputs("\r\033[K", stdout);
  std::fprintf(to, "%s %s\n", clock().c_str(), line.c_str());
  std::fflush(to);
}

}  // namespace

void set_log_rank(int rank, int size) {
  console().rank = rank;
  console().size = size;
}

void log_line(const std::string& line) {
  if (console().rank == 0) print(stdout, line);
}

void warn_line(const std::string& line) {
  const Console& c = console();
  print(stderr, (c.size > 1 ? fmt::format("[rank {}] warning: ", c.rank) : "warning: ") + line);
}

void progress_line(const std::string& line) {
  static const bool is_terminal = isatty(STDOUT_FILENO) != 0;
  Console& c = console();
  if (!is_terminal || c.rank != 0) return;
  const std::lock_guard lock(c.mutex);
  std::fprintf(stdout, "\r\033[K%s", line.c_str());
  std::fflush(stdout);
  c.has_progress = true;
}

}  // namespace pendulum
