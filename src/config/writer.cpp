// Walks the field lists and writes each key, the inverse of the reader.
#include "config/writer.h"

#include <fmt/format.h>

#include <cctype>

#include "config/fields.h"

namespace pendulum {
namespace {

Value scalar(std::string words, bool quoted = false) {
  return Value{.kind = Value::Kind::scalar, .text = std::move(words), .quoted = quoted};
}

// Text that plain YAML would read as something else, inside a flow map too.
bool needs_quotes(const std::string& words) {
  if (words.empty() || words.front() == ' ' || words.back() == ' ') return true;
  std::string lower;
  for (const unsigned char c : words) {
    const bool safe = std::isalnum(c) || c == '.' || c == '/' || c == '_' || c == '+' || c == '@' ||
                      c == '-' || c == ' ';
    if (!safe) return true;
    lower += static_cast<char>(std::tolower(c));
  }
  const unsigned char first = words.front();
  if (!std::isalpha(first) && first != '.' && first != '/' && first != '_') return true;
  for (const char* word : {"null", "true", "false", "yes", "no", "on", "off", "..."}) {
    if (lower == word) return true;
  }
  return false;
}

std::string quoted_text(const std::string& words) {
  std::string out = "\"";
  for (const char c : words) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

class Writer {
 public:
  explicit Writer(Keys keys) : keys_(keys) { out_.kind = Value::Kind::map; }

  template <class T>
  void operator()(T& member, const Spec& spec) {
    if (keys_ == Keys::fixed && spec.may_change) return;
    add(write(member, spec), spec);
  }

  template <class T>
  void list(std::vector<T>& members, const T&, const Spec& spec) {
    if (keys_ == Keys::fixed && spec.may_change) return;
    add(write(members, spec), spec);
  }

  Value take() { return std::move(out_); }

 private:
  void add(Value value, const Spec& spec) {
    value.key = spec.key;
    value.quiet = spec.quiet;
    out_.items.push_back(std::move(value));
  }

  template <Section T>
  Value write(T& section, const Spec&) {
    Writer inner(keys_);
    fields(inner, section);
    return inner.take();
  }

  template <class T>
  requires std::is_arithmetic_v<T> Value write(T& number, const Spec&) {
    return scalar(
        fmt::format("{}", number));  // the shortest digits that read back to the same number
  }
  Value write(std::string& words, const Spec&) { return scalar(words, true); }
  Value write(std::optional<double>& number, const Spec& spec) {
    return number ? write(*number, spec) : scalar(spec.unset);
  }
  Value write(Every& every, const Spec&) { return scalar(print(every)); }
  Value write(Steps& steps, const Spec&) { return scalar(print(steps)); }
  Value write(Beat& beat, const Spec&) { return scalar(print(beat)); }
  Value write(Flops& flops, const Spec&) { return scalar(print_flops(flops.count)); }
  Value write(Shape& shape, const Spec&) { return scalar(shape.name()); }
  Value write(Size& size, const Spec&) {
    return scalar(fmt::format("{}x{}", size.height, size.width));
  }

  Value write(FrameCounts& counts, const Spec& spec) {
    return counts.lengths.empty() ? write(counts.longest, spec) : write(counts.lengths, spec);
  }
  Value write(Aspects& aspects, const Spec&) {
    if (aspects.is_auto) return scalar("auto");
    Value out{.kind = Value::Kind::list};
    for (const Aspect& aspect : aspects.listed)
      out.items.push_back(scalar(fmt::format("{}:{}", aspect.width, aspect.height), true));
    return out;
  }
  Value write(Folders& folders, const Spec& spec) {
    return folders.paths.size() == 1 ? write(folders.paths.front(), spec)
                                     : write(folders.paths, spec);
  }

  template <class T>
  Value write(std::vector<T>& elements, const Spec& spec) {
    Value out{.kind = Value::Kind::list};
    for (T& element : elements) out.items.push_back(write(element, spec));
    return out;
  }

  template <class T>
  Value write(std::map<std::string, T>& entries, const Spec& spec) {
    Value out{.kind = Value::Kind::map};
    for (auto& [key, entry] : entries) {
      out.items.push_back(write(entry, spec));
      out.items.back().key = key;
    }
    return out;
  }

  Keys keys_;
  Value out_;
};

template <class T>
Value written(T copy, Keys keys) {
  Writer writer(keys);
  fields(writer, copy);
  return writer.take();
}

}  // namespace

Value write_config(const Config& config, Keys keys) { return written(config, keys); }

Value write_stage(const StageConfig& stage) { return written(stage, Keys::all); }

StageConfig stage_prototype(const Config& config) {
  return {.optim = config.optim, .objective = config.objective};
}

std::string flow_text(const Value& value) {
  if (value.kind == Value::Kind::nothing) return "null";
  if (value.kind == Value::Kind::scalar) {
    return value.quoted && needs_quotes(value.text) ? quoted_text(value.text) : value.text;
  }
  const bool is_map = value.kind == Value::Kind::map;
  std::string out = is_map ? "{" : "[";
  for (const Value& item : value.items) {
    if (out.size() > 1) out += ", ";
    if (is_map) out += flow_text(scalar(item.key, true)) + ": ";
    out += flow_text(item);
  }
  return out + (is_map ? "}" : "]");
}

}  // namespace pendulum
