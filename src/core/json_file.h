// A JSON file as a whole, with errors that name it and the place in it.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace pendulum {

// What no JSON file that this program reads comes near. What is larger is another file, such as
// weights, and is not read into memory to find that out.
inline constexpr uint64_t kMostJsonBytes = uint64_t{1} << 28;

// DataError names the path, and says what is wrong: nothing is there, or no regular file; it cannot
// be opened or read to its end; it holds more than kMostJsonBytes; it is no JSON, from this line,
// column and byte on.
nlohmann::json read_json(const std::string& path);

// What nlohmann's parser says in an error, without the library's name, the place that it counts,
// and the bytes read last, which need not be text.
std::string json_fault(const std::string& message);

}  // namespace pendulum
