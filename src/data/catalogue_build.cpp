// From the lines of index.jsonl to columns: pieces of the file are parsed side by side and joined
// in order.
#define XXH_INLINE_ALL
#include <fcntl.h>
#include <simdjson.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "data/catalogue_file.h"
#include "data/pack_format.h"
#include "data/parallel.h"

namespace pendulum {
namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;

// The index, mapped; pages go as they came.
class MappedIndex {
 public:
  explicit MappedIndex(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat found {};
    if (descriptor >= 0 && ::fstat(descriptor, &found) == 0 && found.st_size > 0) {
      length_ = static_cast<size_t>(found.st_size);
      changed_ = found.st_mtim.tv_sec * 1'000'000'000 + found.st_mtim.tv_nsec;
      void* mapped = ::mmap(nullptr, length_, PROT_READ, MAP_PRIVATE, descriptor, 0);
      if (mapped != MAP_FAILED) bytes_ = static_cast<const char*>(mapped);
    }
    if (descriptor >= 0) ::close(descriptor);
    if (!bytes_) throw DataError(text(path, ": cannot be read, or is empty"));
  }
  MappedIndex(const MappedIndex&) = delete;
  MappedIndex& operator=(const MappedIndex&) = delete;
  ~MappedIndex() { ::munmap(const_cast<char*>(bytes_), length_); }
  std::string_view all() const { return {bytes_, length_}; }
  int64_t changed() const { return changed_; }

 private:
  const char* bytes_ = nullptr;
  size_t length_ = 0;
  int64_t changed_ = 0;
};

struct Row {
  uint64_t offset = 0;
  double seconds = 0;
  uint64_t class_key = 0;
  uint64_t id_hash = 0;
  uint32_t frames = 0;
};

struct Piece {
  size_t begin = 0, end = 0;
  std::vector<Row> rows;
  std::string identities;  // what the digest runs over
  std::string problem;     // of the line behind the last row; empty: none
};

// Fields that differ from sample to sample; all others make a sample's class.
bool is_of_the_sample(std::string_view key) {
  for (const char* own : {"id", "captions", "sha256", "seconds", "fps", "frames", "shard", "offset",
                          "bytes", "file", "start", "end", "phashes"}) {
    if (key == own) return true;
  }
  return false;
}

// Reads lines one by one with simdjson, which looks a little beyond their end.
class LineReader {
 public:
  explicit LineReader(const IndexClaim& claim) : claim_(claim) {}

  // Why the line is bad; empty: it was taken.
  std::string read(std::string_view whole, size_t begin, size_t end, Piece& piece) {
    try {
      std::string_view line = whole.substr(begin, end - begin);
      if (whole.size() - end < simdjson::SIMDJSON_PADDING) {
        padded_.assign(line);
        padded_.resize(line.size() + simdjson::SIMDJSON_PADDING, ' ');
        line = std::string_view(padded_).substr(0, line.size());
      }
      auto document =
          parser_.iterate(line.data(), line.size(), line.size() + simdjson::SIMDJSON_PADDING);
      return take(document.get_object().value(), begin, piece);
    } catch (const simdjson::simdjson_error& error) {
      return text("is damaged: ", error.what());
    }
  }

 private:
  std::string take(simdjson::ondemand::object object, uint64_t begin, Piece& piece) {
    Row row{.offset = begin};
    XXH64_hash_t key_hash = 0;
    std::string_view id, sha, file;
    double start = 0, stop = std::numeric_limits<double>::infinity(), fps = 0;
    int64_t shard = -1, offset = -1, bytes = 0, frames = 0;
    for (auto field : object) {
      const std::string_view key = field.unescaped_key();
      if (!is_of_the_sample(key)) {
        const std::string_view value = raw(field.value());
        key_hash = XXH3_64bits_withSeed(key.data(), key.size(), key_hash);
        key_hash = XXH3_64bits_withSeed(value.data(), value.size(), key_hash);
      } else if (key == "id") {
        id = field.value().get_string();
      } else if (key == "sha256") {
        sha = field.value().get_string();
      } else if (key == "file") {
        file = field.value().get_string();
      } else if (key == "seconds") {
        row.seconds = field.value().get_double();
      } else if (key == "fps") {
        fps = field.value().get_double();
      } else if (key == "start") {
        start = field.value().get_double();
      } else if (key == "end") {
        stop = field.value().get_double();
      } else if (key == "frames") {
        frames = field.value().get_int64();
      } else if (key == "shard") {
        shard = field.value().get_int64();
      } else if (key == "offset") {
        offset = field.value().get_int64();
      } else if (key == "bytes") {
        bytes = field.value().get_int64();
      }
    }
    if (id.empty() || sha.size() != 64 || frames < 1 || frames > static_cast<int64_t>(kMost24) ||
        (row.seconds != 0 && !(std::abs(fps * row.seconds - static_cast<double>(frames)) <=
                               1e-6 * static_cast<double>(frames))))
      return "a value is out of its range";
    const bool in_shard =
        file.empty() && shard >= 0 && shard < claim_.shards && bytes <= kMaxMediaBytes;
    if ((file.empty() && !in_shard) || offset < 0 || bytes <= 0)
      return "names a place that no shard has";
    row.frames = static_cast<uint32_t>(frames);
    row.class_key = key_hash;
    row.id_hash = hash_name(id);
    piece.rows.push_back(row);
    piece.identities.append(id).append(" ");
    const Excerpt excerpt{start, stop};
    if (excerpt.is_whole()) {
      piece.identities.append(sha);
    } else {
      Sample sample;
      sample.sha256 = sha;
      sample.excerpt = excerpt;
      piece.identities.append(identity(sample));
    }
    piece.identities.append("\n");
    return "";
  }

  // The letters of any value.
  static std::string_view raw(simdjson::ondemand::value value) {
    const simdjson::ondemand::json_type kind = value.type();
    switch (kind) {
      case simdjson::ondemand::json_type::object:
        return value.get_object().value().raw_json();
      case simdjson::ondemand::json_type::array:
        return value.get_array().value().raw_json();
      default:
        return value.raw_json_token();
    }
  }

  const IndexClaim& claim_;
  simdjson::ondemand::parser parser_;
  std::string padded_;
};

void parse(std::string_view whole, const IndexClaim& claim, Piece& piece) {
  LineReader reader(claim);
  for (size_t begin = piece.begin; begin < piece.end;) {
    size_t end = whole.find('\n', begin);
    if (end == whole.npos) end = whole.size();
    piece.problem = reader.read(whole, begin, end, piece);
    if (!piece.problem.empty()) return;
    begin = end + 1;
  }
}

std::vector<Piece> cut(std::string_view whole) {
  std::vector<Piece> pieces;
  for (size_t begin = 0; begin < whole.size();) {
    size_t end = std::min(begin + kPieceBytes, whole.size());
    if (end < whole.size()) end = whole.find('\n', end);
    end = end == whole.npos ? whole.size() : std::min(end + 1, whole.size());
    pieces.emplace_back().begin = begin;
    pieces.back().end = end;
    begin = end;
  }
  return pieces;
}

class Columns {
 public:
  Columns(const std::string& path, std::string_view whole) : path_(path), whole_(whole) {}

  void add(Piece& piece) {
    for (const Row& row : piece.rows) {
      const auto [found, is_new] =
          class_numbers_.emplace(row.class_key, static_cast<uint32_t>(classes_.size()));
      if (is_new) add_class(row);
      if (!row_is_of_kind(row, classes_[found->second]))
        throw DataError(text(path_, ":", rows_.size() + 1, ": a value is out of its range"));
      rows_.push_back({row.offset, row.seconds, row.id_hash, row.frames, found->second});
    }
    if (!piece.problem.empty())
      throw DataError(text(path_, ":", rows_.size() + 1, ": ", piece.problem));
    digest_.add(piece.identities);
    piece = {};
  }

  std::string digest() { return digest_.hex(); }
  uint64_t samples() const { return rows_.size(); }

  // The file, but for the head.
  std::string write(ColumnsHead* head) {
    head->samples = rows_.size();
    head->classes = static_cast<uint32_t>(classes_.size());
    const ColumnsLayout at(rows_.size(), classes_.size());
    std::string out(at.end, 0);
    for (size_t i = 0; i < rows_.size(); ++i) {
      std::memcpy(&out[at.seconds + 8 * i], &rows_[i].seconds, 8);
      std::memcpy(&out[at.frames + 3 * i], &rows_[i].frames, 3);
      std::memcpy(&out[at.classes + 3 * i], &rows_[i].class_number, 3);
      std::memcpy(&out[at.offsets + 8 * i], &rows_[i].offset, 8);
    }
    const uint64_t end = whole_.size();
    std::memcpy(&out[at.offsets + 8 * rows_.size()], &end, 8);
    std::memcpy(&out[at.class_table], classes_.data(), sizeof(ClassRecord) * classes_.size());
    write_hashes(at, out);
    const size_t planning = at.class_table + sizeof(ClassRecord) * classes_.size();
    head->planning_checksum = XXH3_64bits(&out[at.seconds], planning - at.seconds);
    return out;
  }

 private:
  struct Kept {
    uint64_t offset;
    double seconds;
    uint64_t id_hash;
    uint32_t frames, class_number;
  };

  static bool row_is_of_kind(const Row& row, const ClassRecord& record) {
    return record.is_clip ? row.seconds > 0 : row.seconds == 0;
  }

  void add_class(const Row& row) {
    if (classes_.size() > kMost24 || rows_.size() >= UINT32_MAX)
      throw DataError(text(path_, ": more than 16 million kinds of samples, or 4 billion samples"));
    const auto number = static_cast<int64_t>(rows_.size());
    const Sample sample = index_line(words(row.offset), text(path_, ":", number + 1)).sample;
    classes_.push_back({static_cast<uint32_t>(number), static_cast<uint16_t>(sample.width),
                        static_cast<uint16_t>(sample.height), sample.kind == MediaKind::clip,
                        sample.split == "validation", 0});
  }

  std::string words(uint64_t offset) const {
    return std::string(whole_.substr(offset, whole_.find('\n', offset) - offset));
  }

  void write_hashes(const ColumnsLayout& at, std::string& out) const {
    struct Hashed {
      uint64_t hash;
      uint32_t row;
      bool operator<(const Hashed& other) const {
        return hash != other.hash ? hash < other.hash : row < other.row;
      }
    };
    std::vector<Hashed> order(rows_.size());
    for (size_t i = 0; i < rows_.size(); ++i)
      order[i] = {rows_[i].id_hash, static_cast<uint32_t>(i)};
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < order.size(); ++i) {
      // Different ids may share a hash; the same id may not come twice.
      for (size_t k = i; k > 0 && order[k - 1].hash == order[i].hash; --k) {
        const std::string id = id_of(order[i].row);
        if (id == id_of(order[k - 1].row))
          throw DataError(text(path_, ":", order[i].row + 1, ": repeats the id ", id, " of line ",
                               order[k - 1].row + 1));
      }
      std::memcpy(&out[at.hashes + 8 * i], &order[i].hash, 8);
      std::memcpy(&out[at.rows + 4 * i], &order[i].row, 4);
    }
  }

  std::string id_of(uint32_t row) const {
    return index_line(words(rows_[row].offset), text(path_, ":", row + 1)).sample.id;
  }

  const std::string& path_;
  std::string_view whole_;
  std::vector<Kept> rows_;
  std::vector<ClassRecord> classes_;
  std::unordered_map<uint64_t, uint32_t> class_numbers_;
  Sha256 digest_;
};

}  // namespace

std::string build_columns(const std::string& index_path, const IndexClaim& claim, int threads) {
  const MappedIndex index(index_path);
  const std::string_view whole = index.all();
  std::string found;
  std::jthread hashing([&] { found = sha256(whole); });
  if (threads <= 0) threads = static_cast<int>(std::max(2u, std::thread::hardware_concurrency()));
  std::vector<Piece> pieces = cut(whole);
  Columns columns(index_path, whole);
  std::string problem;
  try {
    for (size_t begin = 0; begin < pieces.size(); begin += threads) {
      const size_t count = std::min<size_t>(threads, pieces.size() - begin);
      parallel_for(static_cast<int64_t>(count), threads,
                   [&](int64_t i) { parse(whole, claim, pieces[begin + i]); });
      for (size_t i = begin; i < begin + count; ++i) columns.add(pieces[i]);
    }
  } catch (const DataError& error) {
    problem = error.what();
  }
  hashing.join();
  // Damage explains what cannot be read.
  if (found != claim.sha256)
    throw DataError(text(index_path, ": is not the index that ", kPackFile, " was written with"));
  if (!problem.empty()) throw DataError(problem);
  ColumnsHead head;
  std::string out = columns.write(&head);
  if (columns.samples() != static_cast<uint64_t>(claim.samples) ||
      columns.digest() != claim.digest) {
    throw DataError(text(index_path, ": its count or digest is not that of ", kPackFile));
  }
  head.index_bytes = whole.size();
  head.index_changed = index.changed();
  std::memcpy(head.index_sha256, claim.sha256.data(), 64);
  std::memcpy(head.digest, claim.digest.data(), 64);
  head.head_checksum = XXH3_64bits(&head, offsetof(ColumnsHead, head_checksum));
  std::memcpy(out.data(), &head, sizeof head);
  return out;
}

}  // namespace pendulum
