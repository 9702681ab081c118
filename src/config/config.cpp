// Reads a configuration: files and includes, overrides, keys, and what must hold between them.
#include "config/config.h"

#include "config/document.h"
#include "config/reader.h"
#include "core/error.h"

namespace pendulum {
namespace {

Config from_document(const Value& root) {
  Config config = read_config(root);
  check_config(config, root);
  return config;
}

}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  Value root = load_document(path);
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  return from_document(root);
}

std::string located(const std::string& message, const std::string& path,
                    const std::vector<std::string>& overrides) {
  const std::string key = message.substr(0, message.find(": "));
  Value root = load_document(path);
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  if (key == message || !child(root, key.substr(0, key.find('.')))) return message;
  const Place place = place_of(root, key);
  return place.line > 0 ? text(place.file, ":", place.line, ": ", message)
                        : text(place.file, ": ", message);
}

Config parse_config(const std::string& yaml_text, const std::string& name_for_errors) {
  return from_document(resolve_includes(yaml_text, name_for_errors));
}

}  // namespace pendulum
