// Counting a log's samples, and writing them as SPDX elements.
#include "provenance/bill_of_materials.h"

#include <fmt/format.h>

#include <set>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

using nlohmann::json;

constexpr const char* kNoAssertion = "https://spdx.org/rdf/3.0.1/terms/Core/NoAssertionElement";
constexpr const char* kContext = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld";

// What the data sets say of a sample that the log names.
Sample sample_of(const Sources& sources, const std::string& source, const std::string& id) {
  for (const OpenSource& open : sources.open) {
    if (open.name != source) continue;
    if (const auto index = open.data.find(id)) return open.data.sample(*index);
  }
  throw DataError(text("the log names sample ", id, " of source ", source,
                       ", which the data sets of the run do not hold"));
}

Material material_of(const std::string& source, const Sample& sample) {
  return {source, sample.licence, sample.holder};
}

// Collects elements, each with an address of its own under the run's. The profiles want times, and
// the only day that a run knows is that of its rights: every time is that day's midnight, so that
// the same run gives the same bytes.
class Document {
 public:
  explicit Document(const BillOfMaterials& bill)
      : bill_(bill),
        base_("urn:pendulum:" + sha256(bill.run + "\n" + bill.log_head).substr(0, 32) + ":") {
    graph_.push_back({{"@id", "_:creation"},
                      {"type", "CreationInfo"},
                      {"specVersion", "3.0.1"},
                      {"created", bill.created + "T00:00:00Z"},
                      {"createdBy", json::array({id("tool")})}});
    element("SoftwareAgent", "tool", {{"name", "pendulum"}});
  }

  std::string id(const std::string& name) const { return base_ + name; }

  std::string element(const std::string& type, const std::string& name, json members) {
    members["type"] = type;
    members["spdxId"] = id(name);
    members["creationInfo"] = "_:creation";
    if (listed_.insert(members["spdxId"].get<std::string>()).second)
      graph_.push_back(std::move(members));
    return id(name);
  }

  void relate(const std::string& from, const std::string& type,
              const std::vector<std::string>& to) {
    if (to.empty()) return;
    element("Relationship", "relation-" + std::to_string(++relations_),
            {{"from", from}, {"relationshipType", type}, {"to", to}});
  }

  std::string holder(const std::string& name) {
    return element("Agent", "holder-" + sha256(name).substr(0, 16), {{"name", name}});
  }
  std::string licence(const std::string& expression) {
    return element("simplelicensing_LicenseExpression",
                   "licence-" + sha256(expression).substr(0, 16),
                   {{"simplelicensing_licenseExpression", expression}});
  }

  std::string finish(const std::string& root) {
    json all = json::array();
    for (const std::string& listed : listed_) all.push_back(listed);
    const std::vector<std::string> profiles = {"core", "software", "simpleLicensing", "dataset",
                                               "ai"};
    // The document lists its elements, so it comes last.
    element("SpdxDocument", "document",
            {{"name", "bill of materials of run " + bill_.run},
             {"profileConformance", profiles},
             {"rootElement", json::array({root})},
             {"element", all}});
    return json{{"@context", kContext}, {"@graph", graph_}}.dump(1, ' ', false,
                                                                 json::error_handler_t::replace) +
           "\n";
  }

 private:
  const BillOfMaterials& bill_;
  const std::string base_;
  json graph_ = json::array();
  std::set<std::string> listed_;
  int relations_ = 0;
};

std::string data_set(Document& out, const BillOfMaterials& bill, const Material& material,
                     const Consumed& consumed, const char* use) {
  const std::string key =
      fmt::format("{}\n{}\n{}\n{}", use, material.source, material.licence, material.holder);
  const std::string holder = out.holder(material.holder);
  const std::string package = out.element(
      "dataset_DatasetPackage", "data-" + sha256(key).substr(0, 16),
      {{"name",
        fmt::format("{}, {} of {}, {}", use, material.source, material.holder, material.licence)},
       {"comment", fmt::format("{} different samples, drawn {} times; data of digest {}",
                               consumed.samples, consumed.draws, bill.digests.at(material.source))},
       {"dataset_datasetSize", consumed.samples},
       {"dataset_datasetType", json::array({"image", "video"})},
       {"dataset_dataCollectionProcess",
        "as its holder declared; pendulum judged the declaration, not the facts"},
       {"software_primaryPurpose", "data"},
       {"builtTime", bill.created + "T00:00:00Z"},
       {"releaseTime", bill.created + "T00:00:00Z"},
       {"originatedBy", json::array({holder})},
       {"suppliedBy", holder}});
  const std::string licence = out.licence(material.licence);
  out.relate(package, "hasDeclaredLicense", {licence});
  out.relate(package, "hasConcludedLicense", {licence});
  return package;
}

// Weights of others that shape the model.
std::string weights(Document& out, const Origin& origin, const std::string& created) {
  json members{{"name", fmt::format("{}: {}", origin.part, origin.what)},
               {"software_primaryPurpose", "model"},
               {"software_downloadLocation", kNoAssertion},
               {"software_packageVersion", "not recorded"},
               {"releaseTime", created + "T00:00:00Z"},
               {"comment", describe(origin)}};
  if (origin.is_declared) members["suppliedBy"] = out.holder(origin.declared.holder);
  const std::string package = out.element("ai_AIPackage", "weights-" + origin.part, members);
  if (origin.is_declared) {
    const std::string licence = out.licence(origin.declared.licence);
    out.relate(package, "hasDeclaredLicense", {licence});
  }
  return package;
}

std::string row(const Material& material, const Consumed& consumed) {
  return fmt::format("  {:<16} {:<24} {:<32} {:>9} samples {:>11} draws\n", material.source,
                     material.licence, material.holder, consumed.samples, consumed.draws);
}

}  // namespace

BillOfMaterials bill_of_materials(const std::string& log, int64_t at, const Sources& sources,
                                  const FrozenRights& rights) {
  // Which steps stand is known only at the log's end: uses first, counts then.
  std::map<std::pair<std::string, std::string>, std::vector<size_t>> uses;
  const ConsumptionHistory history =
      read_history(log, [&](size_t step, const std::string& source, const std::string& id) {
        uses[{source, id}].push_back(step);
      });
  BillOfMaterials bill{.run = history.run,
                       .created = print(rights.as_of),
                       .log_head = {},
                       .trained = {},
                       .held_out = {},
                       .digests = {},
                       .origins = {}};
  for (const auto& [hash, line] : history.lines_by_hash)
    if (line == at) bill.log_head = hash;
  for (const LoggedStep& step : history.steps)
    if (step.stands_at(at)) bill.step = std::max(bill.step, step.step);
  for (const auto& [key, steps] : uses) {
    int64_t draws = 0;
    for (const size_t i : steps) draws += history.steps[i].stands_at(at);
    if (draws == 0) continue;
    Consumed& consumed =
        bill.trained[material_of(key.first, sample_of(sources, key.first, key.second))];
    ++consumed.samples;
    consumed.draws += draws;
  }
  for (const OpenSource& source : sources.open) {
    bill.digests[source.name] = source.data.digest();
    for (const int64_t i : source.validation)
      ++bill.held_out[material_of(source.name, source.data.sample(i))].samples;
  }
  if (history.started.is_object() && history.started.contains("origins")) {
    for (const json& origin : history.started["origins"])
      bill.origins.push_back(origin_from_json(origin, log));
  }
  return bill;
}

std::string to_spdx(const BillOfMaterials& bill) {
  Document out(bill);
  std::vector<std::string> trained, held_out, base, needed;
  for (const auto& [material, consumed] : bill.trained)
    trained.push_back(data_set(out, bill, material, consumed, "trained on"));
  for (const auto& [material, consumed] : bill.held_out)
    held_out.push_back(data_set(out, bill, material, consumed, "held out"));
  for (const Origin& origin : bill.origins) {
    if (origin.is_own) continue;
    (origin.part == "model" ? base : needed).push_back(weights(out, origin, bill.created));
  }
  const std::string model = out.element(
      "ai_AIPackage", "model",
      {{"name", bill.run},
       {"software_primaryPurpose", "model"},
       {"software_packageVersion", fmt::format("step {}", bill.step)},
       {"software_downloadLocation", kNoAssertion},
       {"releaseTime", bill.created + "T00:00:00Z"},
       {"suppliedBy", out.id("tool")},
       {"ai_typeOfModel", json::array({"video diffusion transformer"})},
       {"comment", "counted from the consumption log up to the line of hash " + bill.log_head}});
  out.relate(model, "trainedOn", trained);
  out.relate(model, "testedOn", held_out);
  out.relate(model, "descendantOf", base);
  out.relate(model, "dependsOn", needed);
  return out.finish(model);
}

std::string describe(const BillOfMaterials& bill) {
  std::string out = fmt::format("run {}, {} steps\ntrained on\n", bill.run, bill.step);
  for (const auto& [material, consumed] : bill.trained) out += row(material, consumed);
  out += "held out\n";
  for (const auto& [material, consumed] : bill.held_out) out += row(material, consumed);
  out += "weights of others\n";
  for (const Origin& origin : bill.origins) out += "  " + describe(origin) + "\n";
  return out;
}

}  // namespace pendulum
