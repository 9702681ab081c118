// Content hashes: SHA-256 for what must be proven, FNV-1a for names.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace pendulum {

// SHA-256 as 64 lower-case hexadecimal digits.
std::string sha256(std::span<const uint8_t> bytes);
std::string sha256(std::string_view bytes);
// The same for bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(const void* bytes, size_t count);
  void add(std::string_view bytes) { add(bytes.data(), bytes.size()); }
  std::string hex();  // once, at the end

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};
// Of a whole file, read in pieces; DataError names a file that cannot be read.
std::string sha256_of_file(const std::string& path);

// 64-bit FNV-1a: a bucket's uid is that of its name, "clips/9x32x32".
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t h = 0xCBF29CE484222325;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return h;
}

}  // namespace pendulum
