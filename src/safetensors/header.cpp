// Parses and writes the JSON header of a safetensors file.
#include "safetensors/header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/json_file.h"

namespace pendulum {
namespace {

using nlohmann::json;

struct Type {
  const char* name;
  at::ScalarType dtype;
};

// The place in this list is the layout rank: the reference implementation's order.
constexpr std::array kTypes{
    Type{"BOOL", at::ScalarType::Bool},
    Type{"U8", at::ScalarType::Byte},
    Type{"I8", at::ScalarType::Char},
    Type{"F8_E5M2", at::ScalarType::Float8_e5m2},
    Type{"F8_E4M3", at::ScalarType::Float8_e4m3fn},
    Type{"I16", at::ScalarType::Short},
    Type{"F16", at::ScalarType::Half},
    Type{"BF16", at::ScalarType::BFloat16},
    Type{"I32", at::ScalarType::Int},
    Type{"F32", at::ScalarType::Float},
    Type{"F64", at::ScalarType::Double},
    Type{"I64", at::ScalarType::Long},
};

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  constexpr size_t kLongest = 300;
  // What stands in a damaged header may be megabytes long, and mean something to a terminal.
  std::string words = what.substr(0, kLongest);
  std::replace_if(
      words.begin(), words.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  throw DataError(
      text(path, " is not a valid safetensors file: ", words, what.size() > kLongest ? "..." : ""));
}

[[noreturn]] void refuse(const std::string& path, const std::string& tensor,
                         const std::string& what) {
  refuse(path, text("tensor '", tensor, "' ", what));
}

// Objects in a header are at most three deep; a name that stands twice would hide one of the two.
json parse_strictly(std::string_view source, const std::string& path) {
  std::vector<std::set<std::string>> keys(1);
  const auto on_event = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > 3) refuse(path, "its header is nested too deeply");
    if (event == json::parse_event_t::object_start) {
      keys.resize(static_cast<size_t>(depth) + 2);
      keys.back().clear();
    } else if (event == json::parse_event_t::key) {
      keys.resize(static_cast<size_t>(depth) + 1);
      const std::string name = value.get<std::string>();
      if (!keys.back().insert(name).second) {
        refuse(path, text("its header has the name '", name, "' twice"));
      }
    }
    return true;
  };
  try {
    return json::parse(source, on_event);
  } catch (const json::exception& error) {
    refuse(path, text("its header is not JSON: ", json_fault(error.what())));
  }
}

at::ScalarType parse_type(const json& value, const std::string& path, const std::string& tensor) {
  if (!value.is_string()) refuse(path, tensor, "has no dtype");
  const auto& name = value.get_ref<const std::string&>();
  const auto* type =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const Type& t) { return name == t.name; });
  if (type == kTypes.end()) refuse(path, tensor, text("has dtype '", name, "', which is not read"));
  return type->dtype;
}

uint64_t parse_count(const json& value, const std::string& path, const std::string& tensor) {
  // A negative number, a fraction and a number beyond 64 bits all fail to be an unsigned integer
  // here.
  if (!value.is_number_unsigned()) {
    refuse(path, tensor, text("has ", value.dump(-1, ' ', true), " where a size should be"));
  }
  return value.get<uint64_t>();
}

TensorPlace parse_tensor(const json& value, uint64_t data_bytes, const std::string& path,
                         const std::string& tensor) {
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    refuse(path, tensor, "must have dtype, shape and data_offsets, and nothing else");
  }
  const json& shape = value["shape"];
  const json& offsets = value["data_offsets"];
  if (!shape.is_array() || !offsets.is_array() || offsets.size() != 2) {
    refuse(path, tensor, "must have a list of sizes as shape and two numbers as data_offsets");
  }
  TensorPlace place;
  place.info.dtype = parse_type(value["dtype"], path, tensor);
  uint64_t bytes = c10::elementSize(place.info.dtype);
  // Strides are formed from max(size, 1), so these must stay in range even where another size is 0.
  uint64_t stride = bytes;
  for (const json& size_json : shape) {
    const uint64_t size = parse_count(size_json, path, tensor);
    if (__builtin_mul_overflow(stride, std::max<uint64_t>(size, 1), &stride) ||
        stride > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      refuse(path, tensor, "has a shape whose product overflows");
    }
    bytes *= size;
    place.info.shape.push_back(static_cast<int64_t>(size));
  }
  place.begin = parse_count(offsets[0], path, tensor);
  place.end = parse_count(offsets[1], path, tensor);
  if (place.begin > place.end || place.end > data_bytes) {
    refuse(path, tensor,
           text("lies at bytes ", place.begin, " to ", place.end, " of ", data_bytes));
  }
  if (place.end - place.begin != bytes) {
    refuse(path, tensor,
           text("has a shape of ", bytes, " bytes but takes ", place.end - place.begin));
  }
  return place;
}

// Ordered by place; tensors without elements come before the one that starts at the same byte.
std::vector<std::pair<std::string, TensorPlace>> by_place(const SafetensorsHeader& header) {
  std::vector<std::pair<std::string, TensorPlace>> sorted(header.tensors.begin(),
                                                          header.tensors.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.begin, a.second.end) < std::pair(b.second.begin, b.second.end);
  });
  return sorted;
}

void check_coverage(const SafetensorsHeader& header, uint64_t data_bytes, const std::string& path) {
  uint64_t covered = 0;
  for (const auto& [name, place] : by_place(header)) {
    if (place.begin < covered) refuse(path, name, "overlaps the tensor before it");
    if (place.begin > covered) refuse(path, name, "leaves a gap after the tensor before it");
    covered = place.end;
  }
  if (covered != data_bytes) {
    refuse(path,
           text("its tensors take ", covered, " bytes but ", data_bytes, " follow the header"));
  }
}

}  // namespace

SafetensorsHeader parse_header(std::string_view source, uint64_t data_bytes,
                               const std::string& path) {
  const json root = parse_strictly(source, path);
  if (!root.is_object()) refuse(path, "its header is not an object");
  SafetensorsHeader header;
  for (const auto& [name, value] : root.items()) {
    if (name != "__metadata__") {
      header.tensors[name] = parse_tensor(value, data_bytes, path, name);
      continue;
    }
    if (!value.is_object()) refuse(path, "its __metadata__ is not an object");
    for (const auto& [key, entry] : value.items()) {
      if (!entry.is_string()) refuse(path, text("its metadata '", key, "' is not a string"));
      header.metadata[key] = entry.get<std::string>();
    }
  }
  check_coverage(header, data_bytes, path);
  return header;
}

std::string format_header(const SafetensorsHeader& header) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  if (!header.metadata.empty()) root["__metadata__"] = header.metadata;
  for (const auto& [name, place] : by_place(header)) {
    root[name] = {{"dtype", kTypes[static_cast<size_t>(layout_rank(place.info.dtype))].name},
                  {"shape", place.info.shape},
                  {"data_offsets", {place.begin, place.end}}};
  }
  std::string source = root.dump();
  source.resize((source.size() + 7) / 8 * 8, ' ');
  return source;
}

int layout_rank(at::ScalarType dtype) {
  const auto* type =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const Type& t) { return dtype == t.dtype; });
  check(type != kTypes.end(), "a dtype that safetensors holds: ", c10::toString(dtype));
  return static_cast<int>(type - kTypes.begin());
}

}  // namespace pendulum
