// Prints the resolved configuration as YAML that people read: a section on a line where it fits,
// else a line per key.
#include "config/config.h"
#include "config/writer.h"

namespace pendulum {
namespace {

constexpr size_t kColumns = 120;

bool equal(const Value& a, const Value& b) { return flow_text(a) == flow_text(b); }

// Drops quiet entries that are as in `base`; of a quiet map, each entry that is.
void drop_quiet(Value& value, const Value& base) {
  std::erase_if(value.items, [&](Value& item) {
    const Value* same = base.find(item.key);
    if (!item.quiet || !same) return false;
    if (item.kind != Value::Kind::map) return equal(item, *same);
    std::erase_if(item.items, [&](const Value& entry) {
      const Value* under = same->find(entry.key);
      return under && equal(entry, *under);
    });
    return item.items.empty();
  });
  for (Value& item : value.items) {
    const Value* same = base.find(item.key);
    if (same && !item.quiet && item.kind == Value::Kind::map) drop_quiet(item, *same);
  }
}

void drop_quiet_everywhere(Value& root, const Config& config) {
  const Value base = write_config(Config{});
  const Value stage_base = write_stage(stage_prototype(config));
  drop_quiet(root, base);
  for (Value& section : root.items) {
    if (section.key == "stages") {
      for (Value& stage : section.items) drop_quiet(stage, stage_base);
    } else if (const Value* same = base.find(section.key); same && section.key != "sources") {
      drop_quiet(section, *same);
    }
  }
}

// Lists of maps and maps of maps, such as stages and sources, take a line per element.
bool wants_lines(const Value& value) {
  if (value.items.empty()) return false;
  for (const Value& item : value.items) {
    if (item.kind != Value::Kind::map) return false;
  }
  return true;
}

void print_items(const Value& value, size_t indent, std::string& out);

// The value after "key:" or "-", on the line begun in `out` if it fits.
void print_value(const Value& value, size_t indent, bool after_key, std::string& out) {
  const std::string flow = flow_text(value);
  const size_t column = out.size() - (out.rfind('\n') + 1);  // npos + 1 is 0
  const bool single = value.kind == Value::Kind::scalar || value.items.empty();
  if (single || (!wants_lines(value) && column + 1 + flow.size() <= kColumns)) {
    out += " " + flow + "\n";
    return;
  }
  std::string lines;
  print_items(value, indent + 2, lines);
  out += after_key ? '\n' : ' ';
  out += after_key ? lines : lines.substr(indent + 2);
}

void print_items(const Value& value, size_t indent, std::string& out) {
  const bool is_map = value.kind == Value::Kind::map;
  for (const Value& item : value.items) {
    const Value key{.kind = Value::Kind::scalar, .text = item.key, .quoted = true};
    out += std::string(indent, ' ') + (is_map ? flow_text(key) + ":" : "-");
    print_value(item, indent, is_map, out);
  }
}

}  // namespace

std::string print_config(const Config& config) {
  Value root = write_config(config);
  drop_quiet_everywhere(root, config);
  std::string out;
  print_items(root, 0, out);
  return out;
}

}  // namespace pendulum
