// Looks members up, and puts what is wrong with one into one wording.
#include "core/json_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"

namespace pendulum {
namespace {

// What stands in a damaged file may be megabytes long, and no text.
std::string shown(const nlohmann::json& value) {
  constexpr size_t kLongest = 100;
  const std::string words = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return words.size() > kLongest ? words.substr(0, kLongest) + "..." : words;
}

}  // namespace

JsonFields::JsonFields(const nlohmann::json& json, std::string path, std::string within)
    : json_(json), path_(std::move(path)), within_(std::move(within)) {
  if (json_.is_object()) return;
  const std::string place = within_.empty() ? "it" : within_.substr(0, within_.size() - 1);
  throw DataError(text(path_, ": ", place, " is ", shown(json_), ": expected a JSON object"));
}

bool JsonFields::has(const std::string& key) const {
  const auto found = json_.find(key);
  return found != json_.end() && !found->is_null();
}

const nlohmann::json& JsonFields::at(const std::string& key) const {
  if (!has(key)) throw DataError(text(path_, ": ", within_, key, " is missing"));
  return json_[key];
}

JsonFields JsonFields::object(const std::string& key) const {
  return {at(key), path_, within_ + key + "."};
}

std::string JsonFields::words(const std::string& key) const {
  if (!at(key).is_string()) fail(key, "text");
  return at(key).get<std::string>();
}

std::string JsonFields::one_of(const std::string& key,
                               std::initializer_list<const char*> words) const {
  std::string choices;
  for (const char* word : words) {
    if (at(key) == word) return word;
    choices += (choices.empty() ? "" : word == *(words.end() - 1) ? " or " : ", ") + text(word);
  }
  fail(key, choices);
}

bool JsonFields::flag(const std::string& key) const {
  if (!at(key).is_boolean()) fail(key, "true or false");
  return at(key).get<bool>();
}

double JsonFields::number(const std::string& key) const {
  if (!at(key).is_number()) fail(key, "a number");
  return at(key).get<double>();
}

int JsonFields::whole(const std::string& key, int least, int most) const {
  return whole_in(at(key), key, least, most);
}

std::vector<int> JsonFields::whole_list(const std::string& key, int least, int most) const {
  if (!at(key).is_array()) fail(key, "a list");
  std::vector<int> out;
  for (const nlohmann::json& value : at(key)) out.push_back(whole_in(value, key, least, most));
  return out;
}

int JsonFields::whole_in(const nlohmann::json& value, const std::string& key, int least,
                         int most) const {
  // What is beyond 63 bits is kept as an unsigned number, and would come back below 0.
  const bool is_whole =
      value.is_number_integer() && value.get<int64_t>() >= least && value.get<int64_t>() <= most &&
      !(value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (!is_whole) {
    fail(key, text(&value == &at(key) ? "a whole number" : "whole numbers", " from ", least, " to ",
                   most));
  }
  return value.get<int>();
}

void JsonFields::fail(const std::string& key, const std::string& expected) const {
  throw DataError(text(path_, ": ", within_, key, " is ", shown(at(key)), ": expected ", expected));
}

}  // namespace pendulum
