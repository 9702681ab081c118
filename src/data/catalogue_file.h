// The file index.columns: its head and where its columns lie.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "data/catalogue.h"

namespace pendulum {

// One class of samples.
struct ClassRecord {
  uint32_t representative = 0;  // a sample
  uint16_t width = 0, height = 0;
  uint8_t is_clip = 0, is_validation = 0;
  uint16_t unused = 0;
};
static_assert(sizeof(ClassRecord) == 12);

// In the byte order of the machine, which the magic number reveals.
struct ColumnsHead {
  static constexpr uint64_t kMagic = 0x736e6d756c6f4350;  // "PColumns"
  static constexpr uint32_t kVersion = 1;
  uint64_t magic = kMagic;
  uint32_t version = kVersion;
  uint32_t classes = 0;
  uint64_t samples = 0;
  uint64_t index_bytes = 0;
  int64_t index_changed = 0;  // nanoseconds since 1970
  char index_sha256[64] = {};
  char digest[64] = {};
  uint64_t planning_checksum = 0;  // XXH3 of the columns for planning and the classes
  uint64_t head_checksum = 0;      // XXH3 of all above
};

// Byte offsets of the columns.
struct ColumnsLayout {
  size_t seconds, frames, classes, class_table, offsets, hashes, rows, end;
  ColumnsLayout(uint64_t samples, uint64_t num_classes) {
    const auto next = [](size_t at) { return (at + 4095) / 4096 * 4096; };
    seconds = 4096;                  // f64 each; 0: a still
    frames = seconds + 8 * samples;  // 24 bits each
    classes = frames + 3 * samples;  // 24 bits each
    class_table = next(classes + 3 * samples);
    offsets = next(class_table + sizeof(ClassRecord) * num_classes);  // u64, one more than samples
    hashes = next(offsets + 8 * (samples + 1));                       // u64, ascending
    rows = hashes + 8 * samples;                                      // u32: whose hash it is
    end = rows + 4 * samples;
  }
};

inline constexpr uint64_t kMost24 = (uint64_t{1} << 24) - 1;

// Builds the file's bytes. `index` is the whole of index.jsonl.
std::string build_columns(const std::string& index_path, const IndexClaim& claim, int threads);

}  // namespace pendulum
