// --set a.b=c: one value laid over the document before it is read, so that the same rules and
// messages hold for it.
#include "config/document.h"
#include "config/nearest.h"
#include "core/error.h"

namespace pendulum {
namespace {

void set_place(Value& value, const Place& place) {
  value.place = place;
  for (Value& item : value.items) set_place(item, place);
}

std::vector<std::string> segments_of(const std::string& path) {
  std::vector<std::string> out{""};
  for (const char c : path) {
    if (c == '.') {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

// The entry to go on with; a missing key of a map is made, and is refused later if it has no
// meaning there.
Value& step_into(Value& parent, const std::string& segment, const std::string& path,
                 const Place& place) {
  if (const Value* there = child(parent, segment)) return const_cast<Value&>(*there);
  if (parent.kind == Value::Kind::list) {
    std::vector<std::string> names;
    for (size_t i = 0; i < parent.items.size(); ++i) names.push_back(element_name(parent, i));
    fail(place, join(path, segment),
         text("no such element", did_you_mean(segment, names), " (valid: ", listed(names), ")"));
  }
  if (parent.kind == Value::Kind::scalar) {
    fail(place, join(path, segment), text(path, " is a single value, \"", parent.text, "\""));
  }
  parent.kind = Value::Kind::map;
  parent.items.push_back(Value{.key = segment, .place = place});
  return parent.items.back();
}

}  // namespace

void apply_override(Value& root, const std::string& assignment) {
  const Place place{"--set " + assignment};
  const size_t equals = assignment.find('=');
  if (equals == 0 || equals == std::string::npos) fail(place, "", "expected key=value");
  Value* value = &root;
  std::string path;
  for (const std::string& segment : segments_of(assignment.substr(0, equals))) {
    if (segment.empty()) fail(place, "", "expected key=value with a key such as optim.lr");
    value = &step_into(*value, segment, path, place);
    path = join(path, segment);
  }
  Value now = parse_document(assignment.substr(equals + 1), place.file);
  now.key = value->key;
  set_place(now, place);
  *value = now;
}

}  // namespace pendulum
