// One checkpoint: a folder of safetensors files with a manifest, complete or invisible.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "safetensors/safetensors.h"

namespace pendulum {

struct CheckpointContents {
  std::map<std::string, NamedTensors>
      tensors;  // file name without .safetensors -> its tensors; sorted by name once loaded
  nlohmann::json state;  // all else that training needs to go on
};

// Writes <folder>, which must not exist: a hidden folder beside it first, each file synced, the
// manifest last, then one rename. After a failure (Error, naming the path) nothing is left behind.
void save_checkpoint(const std::string& folder, int64_t step, const CheckpointContents& contents);

// Reads and verifies every byte; tensors are on the CPU. DataError names the file and what is
// wrong.
CheckpointContents load_checkpoint(const std::string& folder);

// A checkpoint whose tensors are read one by one, by whoever needs which. The manifest is verified,
// the files' contents are not: checkpoint_damage() or latest_checkpoint() did, on one process.
struct CheckpointFiles {
  std::map<std::string, SafetensorsFile> tensors;  // file name without .safetensors
  nlohmann::json state;
  // Fills `to` from one of the files. DataError names the file, or the first tensor that is missing
  // or of another shape or type; those before it are filled then.
  void read(const std::string& stem, const NamedTensors& to) const;
};
CheckpointFiles open_checkpoint(const std::string& folder);

// Why the checkpoint cannot be loaded, or nothing. Without `thorough`, lengths alone are compared.
std::string checkpoint_damage(const std::string& folder, bool thorough = true);

}  // namespace pendulum
