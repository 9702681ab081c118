// Walks the field lists and reads each key strictly; what is left over is unknown.
#include "config/reader.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>

#include "config/fields.h"
#include "config/nearest.h"
#include "config/scalars.h"
#include "core/error.h"

namespace pendulum {
namespace {

constexpr const char* kEvery = R"("every 200 steps", "every stage" or "never")";
constexpr const char* kSteps = R"(a number of steps such as "50 steps")";
constexpr const char* kBeat =
    R"(a time or work such as "2 s" or "0.5 TFLOP" (units: us, ms, s, FLOP, kFLOP, MFLOP, GFLOP, TFLOP, PFLOP, EFLOP))";
constexpr const char* kWork =
    R"(work such as "20 TFLOP" or 2e13 (units: FLOP, kFLOP, MFLOP, GFLOP, TFLOP, PFLOP, EFLOP))";
constexpr const char* kShape = R"(frames x height x width in pixels, such as "33x256x256")";
constexpr const char* kSize = R"(height x width in pixels, such as "32x48")";
constexpr const char* kAspects = R"(aspects width:height, such as [16:9, 1:1], or auto)";

class Reader {
 public:
  Reader(const Value& map, const std::string& path) : map_(map), path_(path) {
    if (map.kind != Value::Kind::map) fail_expected(map, path, "a map of keys");
  }

  template <class T>
  void operator()(T& member, const Spec& spec) {
    if (const Value* value = take(spec)) read(*value, join(path_, spec.key), spec, member);
  }

  template <class T>
  void list(std::vector<T>& members, const T& prototype, const Spec& spec) {
    const Value* value = take(spec);
    if (!value) return;
    const std::string path = join(path_, spec.key);
    check_list(*value, path, spec);
    members.clear();
    for (size_t i = 0; i < value->items.size(); ++i) {
      members.push_back(prototype);
      read(value->items[i], join(path, element_name(*value, i)), spec, members.back());
    }
  }

  // After all fields were visited: fails for the first key that none of them took.
  void finish() const {
    for (const Value& item : map_.items) {
      bool known = false;
      for (const std::string& name : known_) known |= name == item.key;
      if (known) continue;
      fail(item.place, join(path_, item.key),
           text("unknown key", did_you_mean(item.key, known_), " (valid: ", listed(known_), ")"));
    }
  }

 private:
  const Value* take(const Spec& spec) {
    known_.emplace_back(spec.key);
    const Value* value = map_.find(spec.key);
    if (!value && spec.required) {
      // A misspelt key explains the missing one.
      finish_if_near(spec.key);
      fail(map_.place, join(path_, spec.key), text("missing, and required: ", spec.help));
    }
    return value;
  }

  void finish_if_near(const std::string& key) const {
    for (const Value& item : map_.items) {
      const std::string hint = did_you_mean(item.key, {key});
      if (!hint.empty()) fail(item.place, join(path_, item.key), "unknown key" + hint);
    }
  }

  template <Section T>
  void read(const Value& value, const std::string& path, const Spec&, T& out) {
    Reader inner(value, path);
    fields(inner, out);
    inner.finish();
  }

  void read(const Value& value, const std::string& path, const Spec& spec, int& out) {
    using Limits = std::numeric_limits<int>;
    out = static_cast<int>(read_integer(value, path, spec, Limits::min(), Limits::max()));
  }
  void read(const Value& value, const std::string& path, const Spec& spec, int64_t& out) {
    out = read_integer(value, path, spec, INT64_MIN, INT64_MAX);
  }
  void read(const Value& value, const std::string& path, const Spec& spec, uint64_t& out) {
    out = read_unsigned(value, path, spec);
  }
  void read(const Value& value, const std::string& path, const Spec& spec, double& out) {
    out = read_number(value, path, spec);
  }
  void read(const Value& value, const std::string& path, const Spec&, bool& out) {
    out = read_bool(value, path);
  }
  void read(const Value& value, const std::string& path, const Spec& spec, std::string& out) {
    out = read_words(value, path, spec);
  }

  void read(const Value& value, const std::string& path, const Spec& spec,
            std::optional<double>& out) {
    const bool unset =
        value.kind == Value::Kind::scalar && !value.quoted && value.text == spec.unset;
    out = unset ? std::nullopt : std::optional(read_number(value, path, spec));
  }

  void read(const Value& value, const std::string& path, const Spec&, Every& out) {
    out = with_unit(value, path, parse_every(plain_text(value, path, kEvery)), kEvery);
  }
  void read(const Value& value, const std::string& path, const Spec&, Steps& out) {
    out = with_unit(value, path, parse_steps(plain_text(value, path, kSteps)), kSteps);
  }
  void read(const Value& value, const std::string& path, const Spec&, Beat& out) {
    out = with_unit(value, path, parse_beat(plain_text(value, path, kBeat)), kBeat);
  }
  void read(const Value& value, const std::string& path, const Spec& spec, Flops& out) {
    out.count = with_unit(value, path, parse_flops(plain_text(value, path, kWork)), kWork);
    check_range(out.count, value, path, kWork, spec);
  }
  void read(const Value& value, const std::string& path, const Spec& spec, Size& out) {
    const std::string& words = plain_text(value, path, kSize);
    const size_t x = words.find('x');
    Value edge = value;
    for (const auto& [target, part] :
         {std::pair{&out.height, words.substr(0, x)},
          std::pair{&out.width, x == std::string::npos ? "" : words.substr(x + 1)}}) {
      if (part.empty() || part.find_first_not_of("0123456789") != std::string::npos) {
        fail_expected(value, path, kSize);
      }
      edge.text = part;
      read(edge, path, spec, *target);
    }
  }

  void read(const Value& value, const std::string& path, const Spec& spec, FrameCounts& out) {
    out.lengths.clear();
    if (value.kind != Value::Kind::list) return read(value, path, spec, out.longest);
    Spec filled = spec;
    filled.filled = true;
    read(value, path, filled, out.lengths);
    std::sort(out.lengths.begin(), out.lengths.end(), std::greater());
    out.longest = out.lengths.front();
  }
  void read(const Value& value, const std::string& path, const Spec&, Aspects& out) {
    out.listed.clear();
    out.is_auto = value.kind == Value::Kind::scalar && value.text == "auto";
    if (out.is_auto) return;
    if (value.kind != Value::Kind::list) fail_expected(value, path, kAspects);
    for (const Value& item : value.items) {
      Aspect aspect;
      int end = 0;
      const bool is_aspect =
          item.kind == Value::Kind::scalar &&
          std::sscanf(item.text.c_str(), "%4d:%4d%n", &aspect.width, &aspect.height, &end) == 2 &&
          end == static_cast<int>(item.text.size()) && aspect.width > 0 && aspect.height > 0;
      if (!is_aspect) fail_expected(item, path, kAspects);
      out.listed.push_back(aspect);
    }
  }
  void read(const Value& value, const std::string& path, const Spec& spec, Folders& out) {
    out.paths.assign(1, "");
    if (value.kind != Value::Kind::list) return read(value, path, spec, out.paths.front());
    Spec filled = spec;
    filled.filled = true;
    read(value, path, filled, out.paths);
  }
  void read(const Value& value, const std::string& path, const Spec&, Shape& out) {
    out = with_unit(value, path, parse_shape(plain_text(value, path, kShape)), kShape);
  }

  template <class T>
  static T with_unit(const Value& value, const std::string& path, const std::optional<T>& parsed,
                     const char* form) {
    if (!parsed) fail_expected(value, path, form);
    return *parsed;
  }

  template <class T>
  void read(const Value& value, const std::string& path, const Spec& spec, std::vector<T>& out) {
    check_list(value, path, spec);
    out.clear();
    for (size_t i = 0; i < value.items.size(); ++i) {
      T element{};
      read(value.items[i], join(path, std::to_string(i)), spec, element);
      out.push_back(std::move(element));
    }
  }

  template <class T>
  void read(const Value& value, const std::string& path, const Spec& spec,
            std::map<std::string, T>& out) {
    if (value.kind != Value::Kind::map) fail_expected(value, path, "a map");
    if (spec.filled && value.items.empty()) {
      fail(value.place, path, "expected at least one entry, found an empty map");
    }
    out.clear();
    for (const Value& item : value.items) {
      const std::string name = join(path, item.key);
      check_pattern(item.key, item, name, spec);
      read(item, name, spec, out[item.key]);
    }
  }

  static void check_list(const Value& value, const std::string& path, const Spec& spec) {
    if (value.kind != Value::Kind::list) fail_expected(value, path, "a list");
    const size_t size = value.items.size();
    if (spec.filled && size == 0)
      fail(value.place, path, "expected at least one element, found an empty list");
    if (spec.length > 0 && size > 0 && size != static_cast<size_t>(spec.length)) {
      fail(value.place, path, text("expected a list of ", spec.length, ", found ", size));
    }
  }

  const Value& map_;
  std::string path_;
  std::vector<std::string> known_;
};

}  // namespace

Config read_config(const Value& root) {
  Config config;
  Reader reader(root, "");
  fields(reader, config);
  reader.finish();
  return config;
}

}  // namespace pendulum
