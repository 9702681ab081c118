// Reading deny-lists and asking them.
#include "rights/deny_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr const char* kHexadecimal = "0123456789abcdef";

bool is_hexadecimal(const std::string& words, size_t digits) {
  return words.size() == digits && words.find_first_not_of(kHexadecimal) == std::string::npos;
}

}  // namespace

std::string print_phash(uint64_t hash) { return fmt::format("{:016x}", hash); }

std::optional<uint64_t> parse_phash(const std::string& words) {
  if (!is_hexadecimal(words, 16)) return std::nullopt;
  uint64_t hash = 0;
  std::from_chars(words.data(), words.data() + words.size(), hash, 16);
  return hash;
}

DenyList DenyList::parse(const std::string& content, const std::string& name) {
  DenyList list;
  std::istringstream lines(content);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    while (!line.empty() && std::string(" \t\r").find(line.back()) != std::string::npos)
      line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    list.add(line, text(name, ":", number));
  }
  return list;
}

DenyList DenyList::read(const std::vector<std::string>& paths) {
  DenyList all;
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    if (file) content << file.rdbuf();
    if (!file)
      throw ConfigError(
          text("rights.deny: ", path, " cannot be read; an empty file denies nothing"));
    DenyList list = parse(content.str(), path);
    all.ids_.merge(list.ids_);
    all.hashes_.merge(list.hashes_);
    all.likenesses_.insert(all.likenesses_.end(), list.likenesses_.begin(), list.likenesses_.end());
  }
  return all;
}

void DenyList::add(const std::string& line, const std::string& where) {
  const size_t colon = line.find(':');
  const std::string kind = line.substr(0, colon);
  const std::string value = colon == std::string::npos ? "" : line.substr(colon + 1);
  if (kind == "id" && !value.empty()) {
    ids_.insert(value);
  } else if (kind == "sha256") {
    if (!is_hexadecimal(value, 64))
      throw ConfigError(text(where, ": expected 64 lower-case hexadecimal digits after sha256:, ",
                             "found \"", value, "\""));
    hashes_.insert(value);
  } else if (kind == "phash") {
    add_likeness(value, where);
  } else {
    throw ConfigError(
        text(where, ": expected id:, sha256: or phash: and its value, found \"", line, "\""));
  }
}

void DenyList::add_likeness(const std::string& value, const std::string& where) {
  const size_t slash = value.find('/');
  Likeness likeness{0, kDefaultHashRadius};
  const auto hash = parse_phash(value.substr(0, slash));
  if (!hash)
    throw ConfigError(text(where, ": expected 16 lower-case hexadecimal digits after phash:, ",
                           "found \"", value, "\""));
  likeness.hash = *hash;
  if (slash != std::string::npos) {
    const char* end = value.data() + value.size();
    const auto [at, code] = std::from_chars(value.data() + slash + 1, end, likeness.radius);
    if (code != std::errc() || at != end || likeness.radius < 0 ||
        likeness.radius > kMostHashRadius) {
      throw ConfigError(text(where, ": expected a radius from 0 to ", kMostHashRadius,
                             " bits after the slash, found \"", value.substr(slash + 1), "\""));
    }
  }
  likenesses_.push_back(likeness);
}

std::optional<std::string> DenyList::reason(const std::string& id, const std::string& sha256,
                                            const std::vector<uint64_t>& phashes) const {
  if (ids_.contains(id)) return "the deny-list names its id";
  if (hashes_.contains(sha256)) return "the deny-list names its content";
  for (const uint64_t hash : phashes) {
    for (const Likeness& likeness : likenesses_) {
      const int bits = std::popcount(hash ^ likeness.hash);
      if (bits <= likeness.radius)
        return text("it looks like phash:", print_phash(likeness.hash), " of the deny-list (", bits,
                    " of 64 bits differ)");
    }
  }
  return std::nullopt;
}

std::string DenyList::canonical() const {
  std::set<std::string> lines;
  for (const std::string& id : ids_) lines.insert("id:" + id);
  for (const std::string& hash : hashes_) lines.insert("sha256:" + hash);
  for (const Likeness& likeness : likenesses_)
    lines.insert(text("phash:", print_phash(likeness.hash), "/", likeness.radius));
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

size_t DenyList::size() const { return ids_.size() + hashes_.size() + likenesses_.size(); }

}  // namespace pendulum
