// From yaml-cpp's nodes to our tree: duplicate keys, tags and several documents are refused, merge
// keys are resolved.
#include "config/document.h"

#include <yaml-cpp/yaml.h>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr int kDeepest = 64;          // also what ends an anchor that contains itself
constexpr int kMostValues = 1 << 18;  // aliases of aliases grow without bound

class Converter {
 public:
  explicit Converter(std::string file) : file_(std::move(file)) {}

  Value value(const YAML::Node& node, const std::string& path, int depth) {
    Value out;
    out.place = {file_, node.Mark().line + 1};
    if (depth > kDeepest)
      fail(out.place, path.substr(0, 40) + "...",
           "nested too deeply, or an anchor that contains itself");
    if (++count_ > kMostValues) fail(out.place, path, "too many values; aliases multiply them");
    const std::string& tag = node.Tag();
    if (!tag.empty() && tag != "?" && tag != "!") {
      fail(out.place, path, text("YAML tags have no meaning here, found \"", tag, "\""));
    }
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        out.kind = Value::Kind::scalar;
        out.text = node.Scalar();
        out.quoted = tag == "!";
        break;
      case YAML::NodeType::Sequence:
        out.kind = Value::Kind::list;
        for (const YAML::Node& element : node) {
          const std::string name = join(path, std::to_string(out.items.size()));
          out.items.push_back(value(element, name, depth + 1));
        }
        break;
      case YAML::NodeType::Map:
        map(node, path, depth, out);
        break;
      default:
        break;
    }
    return out;
  }

 private:
  void map(const YAML::Node& node, const std::string& path, int depth, Value& out) {
    out.kind = Value::Kind::map;
    std::vector<Value> merged;
    for (const auto& entry : node) {
      const Place place{file_, entry.first.Mark().line + 1};
      if (!entry.first.IsScalar()) fail(place, path, "a key must be a word");
      const std::string key = entry.first.Scalar();
      const std::string name = join(path, key);
      const bool is_merge = key == "<<" && entry.first.Tag() != "!";
      if (is_merge ? !merged.empty() : out.find(key) != nullptr) {
        const int first = is_merge ? merged[0].place.line : out.find(key)->place.line;
        fail(place, name, text("given twice; first on line ", first));
      }
      Value item = value(entry.second, name, depth + 1);
      item.place = place;
      item.key = key;
      (is_merge ? merged : out.items).push_back(std::move(item));
    }
    for (const Value& merge : merged) lay_under(merge, path, out);
  }

  // YAML's merge key: entries that the map does not hold itself; of several merged maps the first
  // wins.
  void lay_under(const Value& merge, const std::string& path, Value& out) {
    if (merge.kind == Value::Kind::list) {
      for (const Value& element : merge.items) lay_under(element, path, out);
      return;
    }
    if (merge.kind != Value::Kind::map) {
      fail(merge.place, join(path, "<<"),
           "expected a map or a list of maps, found " + found(merge));
    }
    for (const Value& item : merge.items) {
      if (!out.find(item.key)) out.items.push_back(item);
    }
  }

  std::string file_;
  int count_ = 0;
};

}  // namespace

const Value* Value::find(std::string_view name) const {
  if (kind != Kind::map) return nullptr;
  for (const Value& item : items) {
    if (item.key == name) return &item;
  }
  return nullptr;
}

Value* Value::find(std::string_view name) {
  return const_cast<Value*>(static_cast<const Value*>(this)->find(name));
}

void fail(const Place& place, const std::string& path, const std::string& message) {
  std::string where = place.file;
  if (place.line > 0) where += ":" + std::to_string(place.line);
  if (!path.empty()) where += ": " + path;
  throw ConfigError(where + ": " + message);
}

std::string found(const Value& value) {
  switch (value.kind) {
    case Value::Kind::scalar:
      return text(value.quoted ? "the text \"" : "\"", value.text, "\"");
    case Value::Kind::list:
      return "a list";
    case Value::Kind::map:
      return "a map";
    case Value::Kind::nothing:
      break;
  }
  return "nothing";
}

std::string join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

std::string element_name(const Value& list, size_t index) {
  const Value* name = list.items[index].find("name");
  const bool named = name && name->kind == Value::Kind::scalar && !name->text.empty();
  return named ? name->text : std::to_string(index);
}

const Value* child(const Value& parent, std::string_view segment) {
  if (parent.kind == Value::Kind::map) return parent.find(segment);
  if (parent.kind != Value::Kind::list) return nullptr;
  for (size_t i = 0; i < parent.items.size(); ++i) {
    if (segment == element_name(parent, i) || segment == std::to_string(i)) return &parent.items[i];
  }
  return nullptr;
}

Place place_of(const Value& root, const std::string& path) {
  const Value* value = &root;
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const Value* next = child(*value, std::string_view(path).substr(begin, end - begin));
    if (!next) break;
    value = next;
    begin = end + 1;
  }
  return value->place;
}

Value parse_document(const std::string& yaml_text, const std::string& name) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(yaml_text);
  } catch (const YAML::Exception& error) {
    // yaml-cpp's words for what is nested deeper than it can follow.
    const bool deep = error.msg == YAML::ErrorMsg::BAD_FILE;
    fail({name, error.mark.line + 1}, "",
         deep ? "nested too deeply" : "not valid YAML: " + error.msg);
  }
  if (documents.empty()) return Value{.place = {name, 1}};
  if (documents.size() > 1) {
    fail({name, documents[1].Mark().line + 1}, "",
         "a second YAML document begins here; one is expected");
  }
  return Converter(name).value(documents[0], "", 0);
}

}  // namespace pendulum
