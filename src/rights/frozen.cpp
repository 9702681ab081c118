// Freezing rights, and rights.json.
#include "rights/frozen.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/json_file.h"

namespace pendulum {
namespace {

constexpr const char* kFrozenFormat = "pendulum-rights/1";

}  // namespace

FrozenRights freeze_rights(const RightsConfig& config, Date today) {
  FrozenRights rights{today, DenyList::read(config.deny)};
  if (config.as_of == "start") return rights;
  const auto day = parse_date(config.as_of);
  if (!day) throw ConfigError(text("rights.as_of: ", config.as_of, " is no day of the calendar"));
  rights.as_of = *day;
  return rights;
}

std::string print(const FrozenRights& rights) {
  nlohmann::ordered_json lines = nlohmann::ordered_json::array();
  std::istringstream canonical(rights.denied.canonical());
  for (std::string line; std::getline(canonical, line);) lines.push_back(line);
  return nlohmann::ordered_json{
             {"format", kFrozenFormat}, {"as_of", print(rights.as_of)}, {"denied", lines}}
             .dump(1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

FrozenRights read_frozen_rights(const std::string& path) {
  const nlohmann::json json = read_json(path);
  try {
    if (json.at("format") != kFrozenFormat)
      throw DataError(text(path, ": is not of format ", kFrozenFormat));
    const auto as_of = parse_date(json.at("as_of").get<std::string>());
    if (!as_of) throw DataError(text(path, ": as_of is ", json["as_of"].dump()));
    std::string lines;
    for (const auto& line : json.at("denied")) lines += line.get<std::string>() + "\n";
    return {*as_of, DenyList::parse(lines, path)};
  } catch (const nlohmann::json::exception& error) {
    throw DataError(text(path, ": is damaged: ", error.what()));
  }
}

}  // namespace pendulum
