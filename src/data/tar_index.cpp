// Reads tar heads without their contents.
#include "data/tar_index.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "core/error.h"
#include "data/media_names.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kBlock = 512;

int64_t round_up(int64_t bytes) { return (bytes + kBlock - 1) / kBlock * kBlock; }

// A field of octal digits, or of 256s where its first bit is set; -1: neither.
int64_t number_in(const char* field, int length) {
  if (static_cast<unsigned char>(field[0]) & 0x80) {
    int64_t value = static_cast<unsigned char>(field[0]) & 0x3f;
    for (int i = 1; i < length; ++i) {
      if (value >> 54) return -1;
      value = value << 8 | static_cast<unsigned char>(field[i]);
    }
    return value;
  }
  int64_t value = 0;
  int i = 0;
  while (i < length && field[i] == ' ') ++i;
  for (; i < length && field[i] != 0 && field[i] != ' '; ++i) {
    if (field[i] < '0' || field[i] > '7') return -1;
    value = value << 3 | (field[i] - '0');
  }
  return value;
}

std::string words_in(const char* field, size_t length) { return {field, strnlen(field, length)}; }

bool checksum_holds(const char* head) {
  int64_t sum = 0;
  for (int i = 0; i < kBlock; ++i)
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(head[i]);
  return sum == number_in(head + 148, 8);
}

// What an extended head says of the member behind it.
struct Extended {
  std::string name;
  int64_t bytes = -1;
};

// "27 path=some/name\n" again and again.
void read_pax(const std::string& records, Extended& out) {
  for (size_t at = 0; at < records.size();) {
    const size_t length = std::strtoul(records.c_str() + at, nullptr, 10);
    if (length < 5 || at + length > records.size()) return;
    const std::string record = records.substr(at, length - 1);
    const size_t space = record.find(' '), equals = record.find('=');
    if (space != record.npos && equals != record.npos && equals > space) {
      const std::string key = record.substr(space + 1, equals - space - 1);
      if (key == "path") out.name = record.substr(equals + 1);
      if (key == "size") out.bytes = std::strtoll(record.c_str() + equals + 1, nullptr, 10);
    }
    at += length;
  }
}

std::string read_bytes(std::ifstream& file, int64_t offset, int64_t bytes,
                       const std::string& path) {
  std::string out(bytes, 0);
  file.seekg(offset);
  if (!file.read(out.data(), bytes)) throw DataError(text(path, ": cannot be read"));
  return out;
}

std::string string_in(const json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return "";
  if (!it->is_string())
    throw DataError(text(where, ": \"", key, "\" must be text, found ", it->dump()));
  return it->get<std::string>();
}

void read_side(const std::string& words, const std::string& where, ManifestEntry& entry) {
  const json object = json::parse(words, nullptr, false);
  if (!object.is_object()) throw DataError(text(where, ": is no JSON object"));
  if (const std::string caption = string_in(object, "caption", where); !caption.empty())
    entry.captions.push_back(caption);
  if (const auto it = object.find("captions"); it != object.end()) {
    if (!it->is_array()) throw DataError(text(where, ": \"captions\" must be a list of texts"));
    for (const json& caption : *it) {
      if (!caption.is_string())
        throw DataError(text(where, ": \"captions\" must be a list of texts"));
      entry.captions.push_back(caption);
    }
  }
  entry.licence = string_in(object, "licence", where);
  if (entry.licence.empty()) entry.licence = string_in(object, "license", where);
  entry.holder = string_in(object, "holder", where);
  entry.basis = string_in(object, "basis", where);
  entry.split = string_in(object, "split", where);
  entry.excerpt = excerpt_in(object, where);
}

// One tar's samples, by key.
void read_shard(const std::string& path, std::map<std::string, ManifestEntry>& out) {
  std::ifstream file(path, std::ios::binary);
  std::map<std::string, ManifestEntry> found;
  for (const TarMember& member : read_tar_index(path)) {
    const size_t slash = member.name.rfind('/');
    const size_t dot = member.name.find('.', slash == member.name.npos ? 0 : slash + 1);
    if (dot == member.name.npos || dot == (slash == member.name.npos ? 0 : slash + 1)) continue;
    const std::string key = member.name.substr(0, dot);
    const std::string extension = lower_case(member.name.substr(dot + 1));
    const std::string where = text(path, ": ", member.name);
    ManifestEntry& entry = found[key];
    entry.id = key;
    if (is_media_extension(extension)) {
      if (!entry.media.empty()) throw DataError(text(where, ": ", key, " has a medium already"));
      entry.media = path;
      entry.offset = member.offset;
      entry.bytes = member.bytes;
    } else if (extension == "txt") {
      std::istringstream words(read_bytes(file, member.offset, member.bytes, path));
      std::string caption, word;
      while (words >> word) caption += (caption.empty() ? "" : " ") + word;
      if (!caption.empty()) entry.captions.insert(entry.captions.begin(), caption);
    } else if (extension == "json") {
      read_side(read_bytes(file, member.offset, member.bytes, path), where, entry);
    }
  }
  for (auto& [key, entry] : found) {
    const auto [first, is_new] = out.emplace(key, std::move(entry));
    if (!is_new)
      throw DataError(text(path, ": the key ", key, " is in ", first->second.media, " already"));
  }
}

std::vector<std::string> tars_of(const std::string& path) {
  if (!fs::is_directory(path))
    return path.ends_with(".tar") ? std::vector{path} : std::vector<std::string>();
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() == ".tar") out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

std::vector<TarMember> read_tar_index(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(text(path, ": cannot be opened"));
  const auto size = static_cast<int64_t>(fs::file_size(path));
  std::vector<TarMember> members;
  Extended extended;
  for (int64_t at = 0; at + kBlock <= size;) {
    const std::string head = read_bytes(file, at, kBlock, path);
    if (std::all_of(head.begin(), head.end(), [](char c) { return c == 0; })) return members;
    if (!checksum_holds(head.data()))
      throw DataError(text(path, ": no tar head at byte ", at, ", or a damaged one"));
    const char kind = head[156];
    int64_t bytes = number_in(head.data() + 124, 12);
    const bool is_file = kind == '0' || kind == 0 || kind == '7';
    if (is_file && extended.bytes >= 0) bytes = extended.bytes;
    const int64_t content = at + kBlock;
    if (bytes < 0 || bytes > size - content)
      throw DataError(text(path, ": broken off behind the head at byte ", at));
    if (kind == 'L') {
      extended.name = words_in(read_bytes(file, content, bytes, path).c_str(), bytes);
    } else if (kind == 'x') {
      read_pax(read_bytes(file, content, bytes, path), extended);
    } else {
      if (is_file) {
        std::string name = words_in(head.data(), 100);
        const std::string prefix = words_in(head.data() + 345, 155);
        if (head.compare(257, 6, std::string("ustar\0", 6)) == 0 && !prefix.empty())
          name = prefix + "/" + name;
        members.push_back({extended.name.empty() ? name : extended.name, content, bytes});
      }
      if (kind != 'g') extended = {};
    }
    at = content + round_up(bytes);
  }
  if (size % kBlock != 0 || size == 0)
    throw DataError(text(path, ": broken off, its length is no multiple of 512"));
  return members;
}

bool is_webdataset(const std::string& path) { return !tars_of(path).empty(); }

std::vector<ManifestEntry> read_webdataset(const std::string& path, int64_t* without_media) {
  std::map<std::string, ManifestEntry> samples;
  for (const std::string& tar : tars_of(path)) read_shard(tar, samples);
  std::vector<ManifestEntry> out;
  *without_media = 0;
  for (auto& [key, entry] : samples) {
    if (entry.media.empty()) {
      ++*without_media;
    } else {
      out.push_back(std::move(entry));
    }
  }
  if (out.empty()) throw DataError(text(path, ": its tar files hold no pictures and no videos"));
  // In the order in which they lie.
  std::sort(out.begin(), out.end(), [](const ManifestEntry& a, const ManifestEntry& b) {
    return std::tie(a.media, a.offset) < std::tie(b.media, b.offset);
  });
  return out;
}

}  // namespace pendulum
