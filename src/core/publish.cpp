// The publish protocol: every return code is checked, because a full disk shows itself as late as
// fsync or close.
#include "core/publish.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace pendulum {
namespace {

[[noreturn]] void fail(const char* action, const std::string& path, int code) {
  throw Error(text("cannot ", action, " ", path, ": ", std::strerror(code)));
}

void sync_path(const std::string& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("open", path, errno);
  const int code = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (code != 0) fail("write to the disk", path, code);
}

std::string folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

OutputFile::OutputFile(const std::string& path)
    : path_(path),
      descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail("create", path_, errno);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::write(const void* bytes, size_t count) {
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = ::write(descriptor_, from, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", path_, errno);
    from += written;
    count -= static_cast<size_t>(written);
  }
}

void OutputFile::close() {
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0) fail("close", path_, errno);
}

void sync_folder(const std::string& path) { sync_path(path, O_DIRECTORY); }

void publish_file(const std::string& path, const std::function<void(const std::string&)>& write) {
  const std::string temporary = text(path, ".tmp.", ::getpid());
  try {
    write(temporary);
    sync_path(temporary, 0);
    if (::rename(temporary.c_str(), path.c_str()) != 0)
      fail("rename a finished file to", path, errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(folder_of(path));
}

void publish_text(const std::string& path, std::string_view content) {
  publish_file(path, [&](const std::string& temporary) {
    OutputFile file(temporary);
    file.write(content);
    file.close();
  });
}

void publish_folder(const std::string& temporary, const std::string& path) {
  sync_folder(temporary);
  // rename() would quietly replace an empty folder.
  if (std::filesystem::exists(path)) fail("rename a finished folder to", path, EEXIST);
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    fail("rename a finished folder to", path, errno);
  sync_folder(folder_of(path));
}

}  // namespace pendulum
