// Reads the files of a configuration: `include:` names what lies underneath, the including file
// wins.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "config/document.h"
#include "config/nearest.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// Where the wish to read a file was written.
struct Asked {
  Place place;
  std::string path;
};

std::string read_text(const std::string& path, const Asked& asked) {
  std::error_code ignored;
  const bool is_folder = fs::is_directory(path, ignored);
  std::ifstream file(path, std::ios::binary);
  if (file && !is_folder) return {std::istreambuf_iterator<char>(file), {}};
  const std::string prefix = asked.path.empty() ? "" : path + ": ";
  if (is_folder) fail(asked.place, asked.path, prefix + "is a folder, expected a YAML file");
  if (fs::exists(path, ignored)) fail(asked.place, asked.path, prefix + "cannot be read");
  const fs::path folder = fs::path(path).parent_path();
  std::vector<std::string> beside;
  for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, ignored)) {
    if (entry.path().extension() == ".yaml")
      beside.push_back((folder / entry.path().filename()).string());
  }
  std::sort(beside.begin(), beside.end());
  fail(asked.place, asked.path, prefix + "no such file" + did_you_mean(path, beside));
}

// Maps are merged at every depth; anything else of `above` replaces what lies below.
void lay_over(Value& below, const Value& above) {
  for (const Value& item : above.items) {
    Value* same = below.find(item.key);
    if (same && same->kind == Value::Kind::map && item.kind == Value::Kind::map) {
      lay_over(*same, item);
      same->place = item.place;
    } else if (same) {
      *same = item;
    } else {
      below.items.push_back(item);
    }
  }
}

class Loader {
 public:
  Value file(const std::string& path, const Asked& asked) {
    const std::string identity = fs::weakly_canonical(path).string();
    chain_.push_back(path);
    if (std::find(identities_.begin(), identities_.end(), identity) != identities_.end()) {
      std::string way = chain_.front();
      for (size_t i = 1; i < chain_.size(); ++i) way += " -> " + chain_[i];
      fail(asked.place, asked.path, "the file includes itself: " + way);
    }
    identities_.push_back(identity);
    Value out = document(read_text(path, asked), path);
    identities_.pop_back();
    chain_.pop_back();
    return out;
  }

  Value document(const std::string& yaml_text, const std::string& name) {
    Value own = parse_document(yaml_text, name);
    if (own.kind == Value::Kind::nothing)
      fail({name}, "", "is empty, expected keys such as \"version: 1\"");
    if (own.kind != Value::Kind::map) {
      fail(own.place, "", "expected keys such as \"version: 1\", found " + found(own));
    }
    check_version(own);
    const auto include = std::find_if(own.items.begin(), own.items.end(),
                                      [](const Value& item) { return item.key == "include"; });
    if (include == own.items.end()) return own;
    const Value named = *include;
    own.items.erase(include);
    Value out{.kind = Value::Kind::map, .place = own.place};
    for (const Value& one : named.kind == Value::Kind::list ? named.items : std::vector{named}) {
      if (one.kind != Value::Kind::scalar || one.text.empty()) {
        fail(one.place, "include", "expected a file or a list of files, found " + found(one));
      }
      const fs::path path = fs::path(name).parent_path() / one.text;
      lay_over(out, file(path.lexically_normal().string(), {one.place, "include"}));
    }
    lay_over(out, own);
    return out;
  }

 private:
  // First of all: in a file of another version every other message would mislead.
  static void check_version(const Value& root) {
    const Value* version = root.find("version");
    if (!version || (version->kind == Value::Kind::scalar && version->text == "1")) return;
    fail(version->place, "version",
         "this program reads configuration version 1, found " + found(*version));
  }

  std::vector<std::string> chain_;       // as written
  std::vector<std::string> identities_;  // without links and dots
};

}  // namespace

Value load_document(const std::string& path) {
  Asked by_nobody;
  by_nobody.place.file = path;
  return Loader().file(path, by_nobody);
}

Value resolve_includes(const std::string& yaml_text, const std::string& name) {
  return Loader().document(yaml_text, name);
}

}  // namespace pendulum
