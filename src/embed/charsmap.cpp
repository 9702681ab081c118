// Units of the double array are laid out as in github.com/s-yata/darts-clone: label in bits 0 to 7
// and 31, "has a value" in bit 8, offset from bit 10 on, times 256 where bit 9 is set.
#include "embed/charsmap.h"

#include <utf8proc.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "embed/unicode.h"

namespace pendulum {
namespace {

constexpr size_t kWholeClusterBytes = 6;  // as in the crate spm_precompiled

uint32_t label_of(uint32_t unit) { return unit & ((1U << 31) | 0xFFU); }
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & (1U << 9)) >> 6); }
uint32_t value_of(uint32_t unit) { return unit & ((1U << 31) - 1); }

}  // namespace

Charsmap::Charsmap(std::string_view blob, const std::string& name) {
  if (blob.empty()) return;
  static_assert(std::endian::native == std::endian::little);
  uint32_t bytes = 0;
  if (blob.size() >= sizeof bytes) std::memcpy(&bytes, blob.data(), sizeof bytes);
  blob.remove_prefix(std::min(blob.size(), sizeof bytes));
  if (bytes < sizeof(uint32_t) || bytes % sizeof(uint32_t) != 0 || bytes >= blob.size() ||
      blob.back() != '\0') {
    throw DataError(text(name, ": its table of normal forms is damaged"));
  }
  trie_.resize(bytes / sizeof(uint32_t));
  std::memcpy(trie_.data(), blob.data(), bytes);
  replacements_ = blob.substr(bytes);
}

bool Charsmap::append_replacement(std::string& out, std::string_view bytes) const {
  if (trie_.empty()) return false;
  // Places outside the array are those of a damaged file; they end the search.
  size_t node = offset_of(trie_[0]);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    node ^= byte;
    if (byte == 0 || node >= trie_.size() || label_of(trie_[node]) != byte) return false;
    const uint32_t unit = trie_[node];
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (node >= trie_.size()) return false;
    const uint32_t start = value_of(trie_[node]);
    if (start >= replacements_.size()) return false;
    out += replacements_.c_str() + start;
    return true;
  }
  return false;
}

std::string Charsmap::normal_form(std::string_view bytes) const {
  const std::u32string code_points = decode_utf8(bytes);
  std::string out;
  for (size_t start = 0; start < code_points.size();) {
    utf8proc_int32_t state = 0;
    size_t end = start + 1;
    while (end < code_points.size() &&
           !utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(code_points[end - 1]),
                                             static_cast<utf8proc_int32_t>(code_points[end]),
                                             &state)) {
      ++end;
    }
    const std::u32string_view cluster(code_points.data() + start, end - start);
    start = end;
    const std::string whole = encode_utf8(cluster);
    if (whole.size() < kWholeClusterBytes && append_replacement(out, whole)) continue;
    for (const char32_t c : cluster) {
      const std::string one = encode_utf8({&c, 1});
      if (!append_replacement(out, one)) out += one;
    }
  }
  return out;
}

}  // namespace pendulum
