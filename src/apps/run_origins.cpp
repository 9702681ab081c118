// Origins judged, and the log's words on them.
#include "apps/run_origins.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "core/log.h"
#include "provenance/evidence.h"

namespace pendulum {

std::vector<Origin> run_origins(const Config& config, const RunFolder& folder,
                                const Communicator& world) {
  std::vector<Origin> origins = judge_origins(config, folder.rights().as_of);
  for (const Origin& origin : origins) {
    if (world.rank() == 0 && !origin.is_own && !origin.is_declared)
      warn("{}; rights.licensed_only would refuse it", describe(origin));
  }
  return origins;
}

nlohmann::json log_details(const Config& config, const RunFolder& folder,
                           const std::vector<Origin>& origins) {
  nlohmann::json list = nlohmann::json::array();
  for (const Origin& origin : origins) list.push_back(to_json(origin));
  nlohmann::json details{{"as_of", print(folder.rights().as_of)},
                         {"rights_sha256", sha256(print(folder.rights()))},
                         {"config", print_config(config)},
                         {"origins", list}};
  // Weights that a run of this program has trained: their log goes on in this one.
  namespace fs = std::filesystem;
  for (const fs::path& place :
       {fs::path(config.model.import), fs::path(config.model.import) / ".."}) {
    if (config.model.import.empty() || details.contains("base")) continue;
    if (const auto evidence = evidence_of(place.string())) {
      details["base"] = {{"run", evidence->head.run},
                         {"step", evidence->step},
                         {"consumption_log_head", evidence->head.head}};
    }
  }
  return details;
}

}  // namespace pendulum
