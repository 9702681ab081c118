// HDF5 calls behind Hdf5File: handles that close themselves, one lock, errors as sentences.
#include "data/hdf5_file.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace pendulum {
namespace {

// Small enough that one random sample costs one short read, large enough that a full shard has few
// chunks.
constexpr hsize_t kChunkBytes = 64 << 10;

// Holds the lock and keeps HDF5 from printing: our errors say it in one sentence.
struct Guard {
  std::lock_guard<std::recursive_mutex> lock{hdf5_mutex()};
  Guard() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }
};

// An open HDF5 identifier and how it is closed.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& path, const std::string& what)
      : id_(id), close_(close) {
    if (id < 0) throw DataError(text(path, ": ", what));
  }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const {
    return id_;
  }  // NOLINT(google-explicit-constructor): every H5 call takes it

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void require(herr_t status, const std::string& path, const std::string& what) {
  if (status < 0) throw DataError(text(path, ": ", what));
}

template <class T>
hid_t native_type();
template <>
hid_t native_type<uint8_t>() {
  return H5T_NATIVE_UINT8;
}
template <>
hid_t native_type<float>() {
  return H5T_NATIVE_FLOAT;
}
template <>
hid_t native_type<int64_t>() {
  return H5T_NATIVE_INT64;
}

Handle access_properties(const std::string& path) {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, path, "HDF5 cannot make access properties");
  // Files are immutable once published, and parallel file systems often refuse locks.
  require(H5Pset_file_locking(access, false, true), path, "HDF5 cannot switch file locking off");
  return access;
}

// A chunked, checksummed dataset. Without values HDF5 does not allow chunks.
Handle make_dataset(hid_t file, const std::string& path, const std::string& name, hid_t type,
                    hsize_t count, hsize_t chunk) {
  const Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose, path,
                     "HDF5 cannot make a space");
  const Handle create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, path, "HDF5 cannot make properties");
  // The time of writing would make two files of the same data differ.
  require(H5Pset_obj_track_times(create, false), path, "HDF5 cannot leave time stamps out");
  if (count > 0) {
    require(H5Pset_chunk(create, 1, &chunk), path, "HDF5 refuses the chunk size");
    require(H5Pset_fletcher32(create), path, "HDF5 refuses checksums");
  }
  return {H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, create, H5P_DEFAULT), H5Dclose,
          path, text("dataset '", name, "' cannot be created")};
}

Handle open_dataset(hid_t file, const std::string& path, const std::string& name) {
  return {H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, path,
          text("has no dataset '", name, "'")};
}

int64_t dataset_length(hid_t dataset, const std::string& path, const std::string& name) {
  const Handle space(H5Dget_space(dataset), H5Sclose, path, "HDF5 cannot tell a dataset's size");
  if (H5Sget_simple_extent_ndims(space) != 1) {
    throw DataError(text(path, ": dataset '", name, "' is not one-dimensional"));
  }
  hsize_t count = 0;
  require(H5Sget_simple_extent_dims(space, &count, nullptr), path, "HDF5 cannot tell a size");
  return static_cast<int64_t>(count);
}

template <class T>
void write_dataset(hid_t file, const std::string& path, const std::string& name,
                   std::span<const T> values) {
  const Guard guard;
  const hsize_t chunk = std::clamp<hsize_t>(values.size(), 1, kChunkBytes / sizeof(T));
  const Handle dataset = make_dataset(file, path, name, native_type<T>(), values.size(), chunk);
  if (values.empty()) return;
  require(H5Dwrite(dataset, native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path,
          text("dataset '", name, "' cannot be written (is the disk full?)"));
}

// count < 0 reads from `first` to the end.
template <class T>
std::vector<T> read_dataset(hid_t file, const std::string& path, const std::string& name,
                            int64_t first, int64_t count, bool is_verified = true) {
  const Guard guard;
  const Handle dataset = open_dataset(file, path, name);
  const int64_t total = dataset_length(dataset, path, name);
  if (count < 0) count = total - first;
  if (first < 0 || count < 0 || first > total - count) {
    throw DataError(text(path, ": values ", first, " to ", first + count, " of dataset '", name,
                         "' are asked for, it has ", total));
  }
  const auto start = static_cast<hsize_t>(first), size = static_cast<hsize_t>(count);
  if (static_cast<uint64_t>(count) * sizeof(T) > kChunkBytes) {
    // A damaged header may claim any length; what is stored cannot be longer than the file.
    hsize_t file_size = 0;
    require(H5Fget_filesize(file, &file_size), path, "HDF5 cannot tell the file's size");
    if (size * sizeof(T) > file_size) {
      throw DataError(text(path, ": dataset '", name, "' claims more bytes than the file has"));
    }
  }
  std::vector<T> values(size);
  if (values.empty()) return values;
  const Handle in_file(H5Dget_space(dataset), H5Sclose, path, "HDF5 cannot tell a dataset's size");
  require(H5Sselect_hyperslab(in_file, H5S_SELECT_SET, &start, nullptr, &size, nullptr), path,
          "HDF5 cannot select a range");
  const Handle in_memory(H5Screate_simple(1, &size, nullptr), H5Sclose, path,
                         "HDF5 cannot make a space");
  const Handle transfer(H5Pcreate(H5P_DATASET_XFER), H5Pclose, path,
                        "HDF5 cannot make transfer properties");
  if (!is_verified)
    require(H5Pset_edc_check(transfer, H5Z_DISABLE_EDC), path, "HDF5 cannot skip a checksum");
  require(H5Dread(dataset, native_type<T>(), in_memory, in_file, transfer, values.data()), path,
          text("dataset '", name, "' cannot be read: its bytes are damaged"));
  return values;
}

}  // namespace

std::recursive_mutex& hdf5_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

Hdf5File Hdf5File::create(const std::string& path) {
  const Guard guard;
  const Handle access = access_properties(path);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  if (file < 0) throw DataError(text(path, ": cannot be created"));
  return {path, file};
}

Hdf5File Hdf5File::open(const std::string& path) {
  const Guard guard;
  const Handle access = access_properties(path);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
  if (file < 0) throw DataError(text(path, ": is missing, or is not a whole HDF5 file"));
  return {path, file};
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)) {}

Hdf5File& Hdf5File::operator=(Hdf5File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  return *this;
}

Hdf5File::~Hdf5File() {
  if (file_ < 0) return;
  const Guard guard;
  H5Fclose(file_);
}

void Hdf5File::write(const std::string& name, std::span<const uint8_t> values) {
  write_dataset(file_, path_, name, values);
}
void Hdf5File::write(const std::string& name, std::span<const float> values) {
  write_dataset(file_, path_, name, values);
}
void Hdf5File::write(const std::string& name, std::span<const int64_t> values) {
  write_dataset(file_, path_, name, values);
}

void Hdf5File::write_attribute(const std::string& name, const std::string& value) {
  const Guard guard;
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, path_, "HDF5 cannot make a text type");
  require(H5Tset_size(type, value.size() + 1), path_, "HDF5 refuses a text's length");
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, path_, "HDF5 cannot make a space");
  const Handle attribute(H5Acreate2(file_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose, path_, text("attribute '", name, "' cannot be created"));
  require(H5Awrite(attribute, type, value.c_str()), path_,
          text("attribute '", name, "' cannot be written"));
}

std::string Hdf5File::read_attribute(const std::string& name) const {
  const Guard guard;
  const Handle attribute(H5Aopen(file_, name.c_str(), H5P_DEFAULT), H5Aclose, path_,
                         text("has no attribute '", name, "'"));
  const Handle type(H5Aget_type(attribute), H5Tclose, path_,
                    "HDF5 cannot tell an attribute's type");
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0) {
    throw DataError(text(path_, ": attribute '", name, "' is not text"));
  }
  std::string value(H5Tget_size(type), '\0');
  require(H5Aread(attribute, type, value.data()), path_,
          text("attribute '", name, "' cannot be read"));
  value.resize(value.find('\0') == std::string::npos ? value.size() : value.find('\0'));
  return value;
}

int64_t Hdf5File::length(const std::string& name) const {
  const Guard guard;
  return dataset_length(open_dataset(file_, path_, name), path_, name);
}

bool Hdf5File::has(const std::string& name) const {
  const Guard guard;
  return H5Lexists(file_, name.c_str(), H5P_DEFAULT) > 0;
}

std::vector<uint8_t> Hdf5File::read_bytes(const std::string& name) const {
  return read_dataset<uint8_t>(file_, path_, name, 0, -1);
}
std::vector<uint8_t> Hdf5File::read_bytes(const std::string& name, int64_t first,
                                          int64_t count) const {
  check(count >= 0, "a range of zero or more bytes: ", count);
  return read_dataset<uint8_t>(file_, path_, name, first, count);
}
std::vector<uint8_t> Hdf5File::read_unverified_bytes(const std::string& name, int64_t first,
                                                     int64_t count) const {
  check(count >= 0, "a range of zero or more bytes: ", count);
  return read_dataset<uint8_t>(file_, path_, name, first, count, false);
}
std::vector<float> Hdf5File::read_floats(const std::string& name) const {
  return read_dataset<float>(file_, path_, name, 0, -1);
}
std::vector<float> Hdf5File::read_floats(const std::string& name, int64_t first,
                                         int64_t count) const {
  check(count >= 0, "a range of zero or more values: ", count);
  return read_dataset<float>(file_, path_, name, first, count);
}
std::vector<int64_t> Hdf5File::read_integers(const std::string& name) const {
  return read_dataset<int64_t>(file_, path_, name, 0, -1);
}

void Hdf5File::close() {
  const Guard guard;
  check(file_ >= 0, "an open HDF5 file: ", path_);
  const herr_t flushed = H5Fflush(file_, H5F_SCOPE_GLOBAL);
  const herr_t closed = H5Fclose(std::exchange(file_, -1));
  if (flushed < 0 || closed < 0) {
    throw DataError(text(path_, ": cannot be closed: its bytes did not all reach the disk"));
  }
}

}  // namespace pendulum
