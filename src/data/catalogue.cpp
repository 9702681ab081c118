// A mapped file of columns over index.jsonl.
#include "data/catalogue.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/publish.h"
#include "data/catalogue_file.h"
#include "data/pack_format.h"

namespace pendulum {
namespace {

// An open file; -1: none.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const { return number_; }
  bool is_open() const { return number_ >= 0; }

 private:
  int number_;
};

struct Stamp {
  uint64_t bytes = 0;
  int64_t changed = 0;
};

Stamp stamp_of(int descriptor) {
  struct stat found {};
  check(::fstat(descriptor, &found) == 0, "the state of an open file");
  return {static_cast<uint64_t>(found.st_size),
          found.st_mtim.tv_sec * 1'000'000'000 + found.st_mtim.tv_nsec};
}

}  // namespace

struct Catalogue::State {
  std::string index_path;
  Descriptor index{-1};
  const uint8_t* bytes = nullptr;
  size_t length = 0;
  ColumnsHead head;
  ColumnsLayout layout{0, 0};
  bool was_built = false;

  ~State() {
    if (bytes) ::munmap(const_cast<uint8_t*>(bytes), length);
  }

  template <class T>
  T at(size_t column, uint64_t index) const {
    T value;
    std::memcpy(&value, bytes + column + sizeof(T) * index, sizeof(T));
    return value;
  }
  uint32_t at24(size_t column, uint64_t index) const {
    const uint8_t* p = bytes + column + 3 * index;
    return p[0] | p[1] << 8 | p[2] << 16;
  }

  // Whether the descriptor's file is what the claim and the index want.
  bool map(int descriptor, const IndexClaim& claim, const Stamp& stamp) {
    const Stamp columns = stamp_of(descriptor);
    if (columns.bytes < sizeof(ColumnsHead)) return false;
    void* mapped = ::mmap(nullptr, columns.bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED) return false;
    if (bytes) ::munmap(const_cast<uint8_t*>(bytes), length);
    bytes = static_cast<const uint8_t*>(mapped);
    length = columns.bytes;
    std::memcpy(&head, bytes, sizeof head);
    const bool is_sound =
        head.magic == ColumnsHead::kMagic && head.version == ColumnsHead::kVersion &&
        head.head_checksum == XXH3_64bits(&head, offsetof(ColumnsHead, head_checksum));
    const bool fits = is_sound && head.index_bytes == stamp.bytes &&
                      head.index_changed == stamp.changed &&
                      std::string(head.index_sha256, 64) == claim.sha256 &&
                      std::string(head.digest, 64) == claim.digest &&
                      head.samples == static_cast<uint64_t>(claim.samples);
    if (!fits) return false;
    layout = ColumnsLayout(head.samples, head.classes);
    if (layout.end != length) return false;
    // What is looked up by id is spread over the file: reading ahead would only fill memory.
    ::madvise(const_cast<uint8_t*>(bytes) + layout.offsets, length - layout.offsets, MADV_RANDOM);
    const size_t planning = layout.class_table + sizeof(ClassRecord) * head.classes;
    return XXH3_64bits(bytes + layout.seconds, planning - layout.seconds) == head.planning_checksum;
  }
};

Catalogue::Catalogue(std::unique_ptr<State> state) : state_(std::move(state)) {}
Catalogue::Catalogue(Catalogue&&) noexcept = default;
Catalogue& Catalogue::operator=(Catalogue&&) noexcept = default;
Catalogue::~Catalogue() = default;

Catalogue Catalogue::open(const std::string& folder, const IndexClaim& claim, int threads) {
  auto state = std::make_unique<State>();
  state->index_path = folder + "/" + kIndexFile;
  Descriptor index(::open(state->index_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!index.is_open())
    throw DataError(text(state->index_path, ": cannot be opened: ", std::strerror(errno)));
  const Stamp stamp = stamp_of(index.get());
  const std::string path = folder + "/" + kColumnsFile;
  const auto take = [&] {
    const Descriptor columns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return columns.is_open() && state->map(columns.get(), claim, stamp);
  };
  if (!take()) {
    // One builds, the others of the machine wait and take what it built.
    ::flock(index.get(), LOCK_EX);
    if (!take()) {
      const std::string built = build_columns(state->index_path, claim, threads);
      state->was_built = true;
      bool is_stored = false;
      try {
        publish_text(path, built);
        is_stored = take();
      } catch (const Error&) {
        warn("{} cannot be written: this process keeps {:.0f} MB of its own instead", path,
             static_cast<double>(built.size()) * 1e-6);
      }
      if (!is_stored) {
        const Descriptor memory(::memfd_create(kColumnsFile, MFD_CLOEXEC));
        check(memory.is_open() && ::ftruncate(memory.get(), 0) == 0, "memory for columns");
        for (size_t done = 0; done < built.size();) {
          const ssize_t count = ::write(memory.get(), built.data() + done, built.size() - done);
          check(count > 0, "memory for columns");
          done += static_cast<size_t>(count);
        }
        if (!state->map(memory.get(), claim, stamp))
          throw DataError(text(state->index_path, ": changed while it was read"));
      }
    }
    ::flock(index.get(), LOCK_UN);
  }
  state->index = std::move(index);
  return Catalogue(std::move(state));
}

int64_t Catalogue::size() const { return static_cast<int64_t>(state_->head.samples); }
int Catalogue::num_classes() const { return static_cast<int>(state_->head.classes); }
int64_t Catalogue::mapped_bytes() const { return static_cast<int64_t>(state_->length); }
bool Catalogue::was_built() const { return state_->was_built; }

int Catalogue::class_of(int64_t index) const {
  return static_cast<int>(state_->at24(state_->layout.classes, index));
}

int64_t Catalogue::representative(int sample_class) const {
  return state_->at<ClassRecord>(state_->layout.class_table, sample_class).representative;
}

SampleFacts Catalogue::facts(int64_t index) const {
  const auto record = state_->at<ClassRecord>(state_->layout.class_table, class_of(index));
  SampleFacts facts{record.is_clip ? MediaKind::clip : MediaKind::still, record.width,
                    record.height};
  facts.is_validation = record.is_validation != 0;
  facts.frames = state_->at24(state_->layout.frames, index);
  facts.seconds = state_->at<double>(state_->layout.seconds, index);
  // The same division that made the index's number.
  facts.fps = record.is_clip ? static_cast<double>(facts.frames) / facts.seconds : 0;
  return facts;
}

std::string Catalogue::where(int64_t index) const {
  return text(state_->index_path, ":", index + 1);
}

std::string Catalogue::line(int64_t index) const {
  const auto begin = state_->at<uint64_t>(state_->layout.offsets, index);
  const auto end = state_->at<uint64_t>(state_->layout.offsets, index + 1);
  std::string words(end > begin ? end - begin : 0, 0);
  const ssize_t count =
      ::pread(state_->index.get(), words.data(), words.size(), static_cast<off_t>(begin));
  if (words.empty() || count != static_cast<ssize_t>(words.size()))
    throw DataError(text(where(index), ": cannot be read"));
  while (!words.empty() && (words.back() == '\n' || words.back() == '\r')) words.pop_back();
  return words;
}

uint64_t Catalogue::hash(int64_t k) const { return state_->at<uint64_t>(state_->layout.hashes, k); }
int64_t Catalogue::by_hash(int64_t k) const { return state_->at<uint32_t>(state_->layout.rows, k); }

std::optional<int64_t> Catalogue::find(const std::string& id) const {
  const uint64_t wanted = hash_name(id);
  int64_t low = 0, high = size();
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (hash(middle) < wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  for (; low < size() && hash(low) == wanted; ++low) {
    const int64_t row = by_hash(low);
    if (index_line(line(row), where(row)).sample.id == id) return row;
  }
  return std::nullopt;
}

}  // namespace pendulum
