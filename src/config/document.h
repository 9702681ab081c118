// A YAML document as a tree in which every value knows the file and line where it was written.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace pendulum {

struct Place {
  std::string file{};  // or "--set a.b=c"
  int line = 0;        // from 1; 0: no line
};

struct Value {
  enum class Kind { nothing, scalar, list, map };
  Kind kind = Kind::nothing;
  std::string key{};    // of an entry of a map
  std::string text{};   // of a scalar
  bool quoted = false;  // of a scalar: 'x', "x" or a block; such a scalar is text and nothing else
  bool quiet = false;   // when printed: left out while it equals its default
  std::vector<Value> items{};  // of a list or a map, in the order of the file
  Place place{};               // of the key, or of the value in a list

  const Value* find(std::string_view name) const;
  Value* find(std::string_view name);
};

// Throws ConfigError "file:line: path: message".
[[noreturn]] void fail(const Place& place, const std::string& path, const std::string& message);

// What stands there, for "found ...": "\"two\"", "a list", "a map", "nothing".
std::string found(const Value& value);

// "a" and "b" -> "a.b"; "" and "b" -> "b".
std::string join(const std::string& path, const std::string& key);

// The entry of a map by its key, or the element of a list by its index or by the `name` in it; null
// when there is none.
const Value* child(const Value& parent, std::string_view segment);

// How an element of a list is called in a path: its name, else its index.
std::string element_name(const Value& list, size_t index);

// Where the value at a path stands, or, where it was not written, the nearest value around it.
Place place_of(const Value& root, const std::string& path);

// One document with anchors and merge keys resolved. `name` stands in errors.
Value parse_document(const std::string& yaml_text, const std::string& name);

// The same with every `include:` resolved, relative to the folder of the file that names it.
Value load_document(const std::string& path);
Value resolve_includes(const std::string& yaml_text, const std::string& name);

// Sets one value: "a.b=c", c in YAML.
void apply_override(Value& root, const std::string& assignment);

}  // namespace pendulum
