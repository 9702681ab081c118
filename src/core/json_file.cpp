// Reads the bytes, parses them, and puts the parser's words into ours.
#include "core/json_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const std::string& path) {
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (status.type() == fs::file_type::not_found)
    throw DataError(text(path, ": there is no such file"));
  if (status.type() == fs::file_type::directory)
    throw DataError(text(path, ": is a folder; expected a JSON file"));
  const uint64_t size = code ? 0 : fs::file_size(path, code);
  if (code) throw DataError(text(path, ": cannot be read: ", code.message()));
  if (size > kMostJsonBytes) {
    throw DataError(text(path, ": has ", size, " bytes; a JSON file of at most ", kMostJsonBytes,
                         " is expected here"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(text(path, ": cannot be opened for reading: ", std::strerror(errno)));
  std::string bytes(size, '\0');
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size)))
    throw DataError(text(path, ": reading failed before its end"));
  return bytes;
}

// "line 3, column 7 (byte 42)" of the byte that the parser stopped at, counted from 1.
std::string place_of(const std::string& bytes, size_t byte) {
  const size_t before = std::min(byte > 0 ? byte - 1 : 0, bytes.size());
  const auto end = bytes.begin() + static_cast<std::ptrdiff_t>(before);
  const auto lines = std::count(bytes.begin(), end, '\n');
  const size_t line_begins = before == 0 ? 0 : bytes.rfind('\n', before - 1) + 1;  // npos + 1 is 0
  return text("line ", lines + 1, ", column ", before - line_begins + 1, " (byte ", before + 1,
              ")");
}

}  // namespace

std::string json_fault(const std::string& message) {
  std::string words = message;
  for (const char* before : {"] ", "column ", ": "}) {
    if (const size_t found = words.find(before); found != std::string::npos)
      words.erase(0, found + std::strlen(before));
  }
  return words.substr(0, words.find("; last read"));
}

nlohmann::json read_json(const std::string& path) {
  const std::string bytes = bytes_of(path);
  if (bytes.empty()) throw DataError(text(path, ": is empty; expected JSON"));
  try {
    return nlohmann::json::parse(bytes);
  } catch (const nlohmann::json::parse_error& error) {
    throw DataError(
        text(path, ": is no JSON: ", place_of(bytes, error.byte), ": ", json_fault(error.what())));
  } catch (const nlohmann::json::exception& error) {  // a number beyond a double's range
    throw DataError(text(path, ": is no JSON: ", json_fault(error.what())));
  }
}

}  // namespace pendulum
