// Reads tensors with pread and writes whole files under the publish protocol.
#include "safetensors/safetensors.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <span>

#include "core/error.h"
#include "core/publish.h"

namespace pendulum {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr int64_t kLengthBytes = 8;  // the header's length, in front of it

void read_fully(int descriptor, void* to, uint64_t bytes, int64_t offset, const std::string& path) {
  char* out = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t count = ::pread(descriptor, out, bytes, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw DataError(text("cannot read ", path, ": ", std::strerror(errno)));
    if (count == 0)
      throw DataError(text(path, " ends before byte ", offset + static_cast<int64_t>(bytes)));
    out += count;
    offset += count;
    bytes -= static_cast<uint64_t>(count);
  }
}

std::shared_ptr<const int> open_for_reading(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw DataError(text("cannot open ", path, ": ", std::strerror(errno)));
  return {new int(descriptor), [](const int* held) {
            ::close(*held);
            delete held;
          }};
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  SafetensorsFile file;
  file.path_ = path;
  file.descriptor_ = open_for_reading(path);
  struct stat status {};
  if (::fstat(*file.descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    throw DataError(text(path, " is not a file"));
  }
  const auto bytes = static_cast<uint64_t>(status.st_size);
  if (bytes < kLengthBytes) {
    throw DataError(text(path, " is not a valid safetensors file: it has ", bytes, " bytes"));
  }
  uint64_t header_bytes = 0;
  read_fully(*file.descriptor_, &header_bytes, kLengthBytes, 0, path);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes - kLengthBytes) {
    throw DataError(text(path, " is not a valid safetensors file: it claims a header of ",
                         header_bytes, " bytes in a file of ", bytes));
  }
  std::string source(header_bytes, '\0');
  read_fully(*file.descriptor_, source.data(), header_bytes, kLengthBytes, path);
  file.header_ = parse_header(source, bytes - kLengthBytes - header_bytes, path);
  file.data_start_ = kLengthBytes + static_cast<int64_t>(header_bytes);
  return file;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : header_.tensors) names.push_back(name);
  return names;
}

const TensorPlace& SafetensorsFile::place(const std::string& name) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) throw DataError(text(path_, " has no tensor '", name, "'"));
  return found->second;
}

const TensorInfo& SafetensorsFile::info(const std::string& name) const { return place(name).info; }

at::Tensor SafetensorsFile::load(const std::string& name) const {
  const TensorPlace& where = place(name);
  at::Tensor tensor = at::empty(where.info.shape, at::TensorOptions().dtype(where.info.dtype));
  read_fully(*descriptor_, tensor.data_ptr(), where.end - where.begin,
             data_start_ + static_cast<int64_t>(where.begin), path_);
  if (where.info.dtype == at::ScalarType::Bool) {
    // A bool of any other byte is undefined behaviour to whoever reads it.
    const std::span bytes(static_cast<const uint8_t*>(tensor.data_ptr()), where.end - where.begin);
    if (std::any_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte > 1; })) {
      throw DataError(text(path_, " is damaged: tensor '", name, "' of booleans has other values"));
    }
  }
  return tensor;
}

at::Tensor SafetensorsFile::map(const std::string& name) const {
  const TensorPlace& where = place(name);
  const auto offset = data_start_ + static_cast<int64_t>(where.begin);
  const auto element = static_cast<int64_t>(c10::elementSize(where.info.dtype));
  const uint64_t bytes = where.end - where.begin;
  if (bytes == 0 || offset % element != 0 || where.info.dtype == at::ScalarType::Bool)
    return load(name);
  const int64_t before = offset % ::sysconf(_SC_PAGESIZE);
  const uint64_t length = bytes + static_cast<uint64_t>(before);
  void* const start = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, *descriptor_, offset - before);
  if (start == MAP_FAILED) throw DataError(text("cannot map ", path_, ": ", std::strerror(errno)));
  return at::from_blob(
      static_cast<char*>(start) + before, where.info.shape,
      [start, length](void*) { ::munmap(start, length); },
      at::TensorOptions().dtype(where.info.dtype));
}

std::map<std::string, at::Tensor> read_safetensors(const std::string& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : file.names()) tensors[name] = file.load(name);
  return tensors;
}

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  NamedTensors sorted = tensors;
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(-layout_rank(a.second.scalar_type()), a.first) <
           std::pair(-layout_rank(b.second.scalar_type()), b.first);
  });
  SafetensorsHeader header;
  header.metadata = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : sorted) {
    check(name != "__metadata__", "a tensor's name other than __metadata__");
    const TensorInfo info{tensor.scalar_type(), tensor.sizes().vec()};
    const bool fresh =
        header.tensors.emplace(name, TensorPlace{info, offset, offset + tensor.nbytes()}).second;
    check(fresh, "one tensor of each name: ", name);
    offset += tensor.nbytes();
  }
  const std::string source = format_header(header);
  const uint64_t length = source.size();
  publish_file(path, [&](const std::string& temporary) {
    OutputFile file(temporary);
    file.write(&length, kLengthBytes);
    file.write(source);
    for (const auto& [name, tensor] : sorted) {
      const at::Tensor dense = tensor.detach().cpu().contiguous();
      file.write(dense.data_ptr(), dense.nbytes());
    }
    file.close();
  });
}

}  // namespace pendulum
