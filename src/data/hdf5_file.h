// One HDF5 file: 1-D datasets and text attributes, every return code checked.
#pragma once
#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace pendulum {

// The one lock for all HDF5 use of the process. Hdf5File takes it by itself in every call; take it
// only around raw H5 calls, or to keep several calls together (it is recursive).
std::recursive_mutex& hdf5_mutex();

// Errors are DataError and name the path. Datasets are written once, whole, in chunks with
// fletcher32 checksums.
class Hdf5File {
 public:
  static Hdf5File create(const std::string& path);  // an existing file is replaced
  static Hdf5File open(const std::string& path);    // for reading

  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&& other) noexcept;
  ~Hdf5File();  // closes quietly: after writing call close(), which reports

  void write(const std::string& name, std::span<const uint8_t> values);
  void write(const std::string& name, std::span<const float> values);
  void write(const std::string& name, std::span<const int64_t> values);
  void write_attribute(const std::string& name, const std::string& value);

  int64_t length(const std::string& name) const;
  bool has(const std::string& name) const;
  std::vector<uint8_t> read_bytes(const std::string& name) const;
  std::vector<uint8_t> read_bytes(const std::string& name, int64_t first, int64_t count) const;
  // Without the chunks' checksums, for records that carry their own: a damaged byte then costs one
  // record, not all the records of its chunk.
  std::vector<uint8_t> read_unverified_bytes(const std::string& name, int64_t first,
                                             int64_t count) const;
  std::vector<float> read_floats(const std::string& name) const;
  std::vector<float> read_floats(const std::string& name, int64_t first, int64_t count) const;
  std::vector<int64_t> read_integers(const std::string& name) const;
  std::string read_attribute(const std::string& name) const;

  // Flushes and closes; DataError when the bytes did not reach the file. The object is empty
  // afterwards.
  void close();
  const std::string& path() const { return path_; }

 private:
  Hdf5File(std::string path, hid_t file) : path_(std::move(path)), file_(file) {}
  std::string path_;
  hid_t file_ = -1;
};

}  // namespace pendulum
