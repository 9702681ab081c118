// Starts this test program again as a child, for what ends a process: kills, _exit, limits.
#pragma once
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"

namespace pendulum {

struct ChildResult {
  int status = 0;  // as of waitpid
  std::string errors;
  bool killed() const { return WIFSIGNALED(status); }
  int exit_code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
};

// stderr goes through a file in `folder`.
inline ChildResult run_child(const std::string& folder, const std::vector<std::string>& arguments) {
  const std::string log = text(folder, "/child_", ::getpid(), ".log");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  std::vector<std::string> words{"/proc/self/exe"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int code = ::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  check(code == 0, "a child that starts: ", code);
  ChildResult result;
  check(::waitpid(child, &result.status, 0) == child, "a child that ends");
  std::ostringstream out;
  out << std::ifstream(log).rdbuf();
  result.errors = out.str();
  ::unlink(log.c_str());
  return result;
}

}  // namespace pendulum
