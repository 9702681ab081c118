// Compares two configurations key by key, as a resumed run must.
#include <algorithm>

#include "config/config.h"
#include "config/writer.h"

namespace pendulum {
namespace {

bool holds_maps(const Value& list) {
  return !list.items.empty() && list.items[0].kind == Value::Kind::map;
}

// Appends the paths at which two values differ: the deepest key that both have, else the one that
// only one has.
void compare(const Value& a, const Value& b, const std::string& path,
             std::vector<std::string>& out) {
  const bool maps = a.kind == Value::Kind::map && b.kind == Value::Kind::map;
  const bool lists = holds_maps(a) && holds_maps(b);  // the stages
  if (!maps && !lists) {
    if (flow_text(a) != flow_text(b)) out.push_back(path);
    return;
  }
  std::vector<std::string> common_a, common_b;
  for (size_t i = 0; i < a.items.size(); ++i) {
    const std::string name = maps ? a.items[i].key : element_name(a, i);
    if (const Value* other = child(b, name)) {
      common_a.push_back(name);
      compare(a.items[i], *other, join(path, name), out);
    } else {
      out.push_back(join(path, name));
    }
  }
  for (size_t i = 0; i < b.items.size(); ++i) {
    const std::string name = maps ? b.items[i].key : element_name(b, i);
    if (child(a, name)) {
      common_b.push_back(name);
    } else {
      out.push_back(join(path, name));
    }
  }
  if (common_a != common_b) out.push_back(path);  // the order
}

}  // namespace

std::vector<std::string> incompatible_keys(const Config& saved, const Config& now) {
  std::vector<std::string> out;
  compare(write_config(saved, Keys::fixed), write_config(now, Keys::fixed), "", out);
  return out;
}

}  // namespace pendulum
