// How much memory this process has in use.
#pragma once
#include <cstdint>
#include <string>

namespace pendulum {

// Bytes, as /proc/self/status counts them: "VmHWM", the most that ever was in use; "RssAnon", now,
// of memory that no file stands behind. Error where it does not tell.
// Not getrusage: its most is that of whoever started this process, where that was more.
int64_t process_memory(const std::string& field);

}  // namespace pendulum
