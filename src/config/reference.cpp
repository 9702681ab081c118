// Writes the reference page: one table per section, from the same lists that parse.
#include <fmt/format.h>

#include "config/fields.h"
#include "config/nearest.h"
#include "config/writer.h"

namespace pendulum {
namespace {

constexpr const char* kIntroduction = R"(# Configuration reference

Written by `pendulum config --reference` from the lists that parse the file; do not edit.

A run is one YAML file. It is read strictly: an unknown key, a wrong type, a value out of range, a missing unit or a key
given twice ends the program with exit code 2 and names file, line, key, what was found and what was expected.

* Paths are relative to the current directory, those of `include:` to the file that names them.
* `include: base.yaml`, or a list of files: their keys lie underneath, the including file wins, maps are merged at every
  depth, lists are replaced. Anchors, aliases and merge keys (`<<: *name`) work as in YAML.
* `--set a.b=c` lays one value over the file: `--set optim.lr=2e-3`, `--set stages.image.steps=5` (a stage by name),
  `--set generate.prompts.0="a red circle"` (an element by index), `--set 'rights.allow=[CC0-1.0]'`.
* Values with units: intervals are `every 200 steps`, `every step`, `every stage`, `never`; lengths `50 steps`; the beat
  `2 s`, `80 ms`, `0.5 TFLOP`, `none`; work `20 TFLOP` or `2e13`; sizes `32x48`, height x width.
* Booleans are `true` and `false`. A number in quotes is a text.

**On resume.** A saved run goes on only as the run that it was: whatever decides what is computed is `fixed`, that is, the
seed, the slots, the model, the codec, the text encoder, the optimiser and the stages' names and shapes. What `may change`:
where and how often things are written, how the machine is used, what is generated for people; and what the plan answers
with a new segment (docs/operating.md): the sources, their weights and batches, the licences, and how long stages last. A
run with another fixed key is a new run.
)";

// The forms of values, for the column "type".
std::string type_of(const int&) { return "whole number"; }
std::string type_of(const int64_t&) { return "whole number"; }
std::string type_of(const uint64_t&) { return "whole number, 64 bits"; }
std::string type_of(const double&) { return "number"; }
std::string type_of(const bool&) { return "boolean"; }
std::string type_of(const std::string&) { return "text"; }
std::string type_of(const std::optional<double>&) { return "number"; }
std::string type_of(const Every&) { return "interval"; }
std::string type_of(const Steps&) { return "steps"; }
std::string type_of(const Beat&) { return "time or work"; }
std::string type_of(const Flops&) { return "work"; }
std::string type_of(const Size&) { return "size"; }
std::string type_of(const FrameCounts&) { return "whole number, or list of them"; }
std::string type_of(const Aspects&) { return "list of width:height, or `auto`"; }
std::string type_of(const Folders&) { return "text, or list of texts"; }
std::string type_of(const Shape&) { return "shape"; }
template <class T>
std::string type_of(const std::vector<T>&) {
  return "list of " + type_of(T{}) + "s";
}
template <class T>
std::string type_of(const std::map<std::string, T>&) {
  return "map from source to " + type_of(T{});
}

std::string range_of(const Spec& spec) {
  std::string out = spec.choices.empty() ? spec.range.words() : "";
  for (const std::string& choice : spec.choices)
    out += fmt::format("{}`{}`", out.empty() ? "" : ", ", choice);
  if (spec.unset) out += fmt::format(" or `{}`", spec.unset);
  if (spec.length > 0) out += fmt::format("; {} elements", spec.length);
  if (spec.filled) out += out.empty() ? "at least one" : "";
  return out;
}

class Page {
 public:
  Page(const Value& defaults, std::string prefix, bool may_change, std::string& rows,
       std::string& sections)
      : defaults_(defaults),
        prefix_(std::move(prefix)),
        may_change_(may_change),
        rows_(rows),
        sections_(sections) {}

  template <class T>
  void operator()(T& member, const Spec& spec) {
    if constexpr (Section<T>) {
      section(member, spec);
    } else {
      const Value* value = defaults_.find(spec.key);
      row(spec, type_of(member),
          spec.required ? "required"
          : spec.quiet  ? ""
                        : code(flow_text(*value)));
    }
  }

  void operator()(std::map<std::string, SourceConfig>&, const Spec& spec) {
    SourceConfig source;
    heading("sources.NAME", spec, source,
            *write_config({.sources = {{"NAME", source}}}).find("sources")->find("NAME"));
  }

  void operator()(std::map<std::string, OriginConfig>&, const Spec& spec) {
    OriginConfig origin;
    heading("rights.origins.NAME", spec, origin,
            *write_config({.rights = {.origins = {{"NAME", origin}}}})
                 .find("rights")
                 ->find("origins")
                 ->find("NAME"));
  }

  void list(std::vector<StageConfig>&, const StageConfig& prototype, const Spec& spec) {
    StageConfig stage = prototype;
    heading("stages (a list)", spec, stage, write_stage(stage));
  }

 private:
  template <class T>
  void section(T& member, const Spec& spec) {
    if (spec.quiet) {  // of a stage: documented at the top
      row(spec, fmt::format("map of keys of [{0}](#{0})", spec.key), "");
    } else if (std::is_same_v<T, StageShape>) {
      row(spec, "map", "required");
      Page inner(*defaults_.find(spec.key), prefix_ + spec.key + ".", may_change_, rows_,
                 sections_);
      fields(inner, member);
    } else {
      heading(spec.key, spec, member, *defaults_.find(spec.key));
    }
  }

  template <class T>
  void heading(const std::string& title, const Spec& spec, T& member, const Value& defaults) {
    std::string rows;
    Page inner(defaults, "", may_change_ || spec.may_change, rows, sections_);
    fields(inner, member);
    sections_ += fmt::format("\n## {}\n\n{}{}\n\n{}", title, spec.help,
                             spec.required ? " Required." : "", table(rows));
  }

  void row(const Spec& spec, const std::string& type, const std::string& standard) {
    const std::string unit = *spec.unit ? fmt::format(", {}", spec.unit) : "";
    rows_ += fmt::format("| `{}{}` | {}{} | {} | {} | {} | {} |\n", prefix_, spec.key, type, unit,
                         standard, range_of(spec),
                         may_change_ || spec.may_change ? "may change" : "fixed", spec.help);
  }

  static std::string code(const std::string& words) { return "`" + words + "`"; }

 public:
  static std::string table(const std::string& rows) {
    return "| key | type | default | range | on resume | meaning |\n|---|---|---|---|---|---|\n" +
           rows;
  }

 private:
  const Value& defaults_;
  std::string prefix_;
  bool may_change_;
  std::string& rows_;
  std::string& sections_;
};

}  // namespace

std::string config_reference() {
  Config config;
  const Value defaults = write_config(config);
  std::string rows, sections;
  Page page(defaults, "", false, rows, sections);
  fields(page, config);
  return fmt::format("{}\n## Top level\n\n{}{}", kIntroduction, Page::table(rows), sections);
}

}  // namespace pendulum
