// Files and folders that appear whole or not at all: written beside their place, synced, renamed.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace pendulum {

// A new file that is written from front to back; Error names the path and the system's reason. The
// destructor closes without a word, so call close() where the content matters.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();
  void write(const void* bytes, size_t count);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  void close();

 private:
  std::string path_;
  int descriptor_ = -1;
};

// Calls write(temporary) with the name "<path>.tmp.<process>" in the same folder, syncs what it
// wrote, renames it to path and syncs the folder. After a failure path is as it was and the
// temporary is gone. Any library may write the file, as long as it has closed it when `write`
// returns.
void publish_file(const std::string& path, const std::function<void(const std::string&)>& write);

// publish_file for content that is at hand.
void publish_text(const std::string& path, std::string_view content);

// Renames a finished folder, whose files are synced, to path, which must not exist. Both on the
// same file system.
void publish_folder(const std::string& temporary, const std::string& path);

// Returns when the folder's entries are on the disk.
void sync_folder(const std::string& path);

}  // namespace pendulum
