// What a model was made of, as SPDX 3.0.1 in JSON-LD with the profiles AI and Dataset.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "batch/sources.h"
#include "provenance/history.h"
#include "rights/origin.h"

namespace pendulum {

// Samples of one source that share licence and holder.
struct Material {
  std::string source, licence, holder;
  auto operator<=>(const Material&) const = default;
};
struct Consumed {
  int64_t samples = 0;  // different ones
  int64_t draws = 0;    // of them
};

struct BillOfMaterials {
  std::string run;
  int64_t step = 0;      // optimiser steps that stand
  std::string created;   // day, of the run's rights: the same run gives the same bytes
  std::string log_head;  // hash of the line up to which the log was read
  std::map<Material, Consumed> trained, held_out;
  std::map<std::string, std::string> digests;  // of the sources' data
  std::vector<Origin> origins;
};

// Of the weights saved at line `at` of the log: steps that were rolled back by then do not count.
// Held-out samples are those set aside, whether or not they were measured. DataError where the log
// names a sample that the packs do not hold.
BillOfMaterials bill_of_materials(const std::string& log, int64_t at, const Sources& sources,
                                  const FrozenRights& rights);

// One JSON document, members sorted, elements in a fixed order; ends with a newline.
std::string to_spdx(const BillOfMaterials& bill);
std::string describe(const BillOfMaterials& bill);  // a table for people

}  // namespace pendulum
