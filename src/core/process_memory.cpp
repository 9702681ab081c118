// Reads one field of /proc/self/status.
#include "core/process_memory.h"

#include <fstream>

#include "core/error.h"

namespace pendulum {

int64_t process_memory(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kilobytes = 0;
    if (word == field + ":" && status >> kilobytes) return kilobytes * 1024;
  }
  throw Error(text("/proc/self/status does not tell ", field));
}

}  // namespace pendulum
