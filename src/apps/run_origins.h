// What a run notes about the weights of others that shape its own.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "apps/run_folder.h"
#include "comm/communicator.h"
#include "config/config.h"
#include "rights/origin.h"

namespace pendulum {

// Judged on the run's day; rank 0 warns of those that nobody declared.
std::vector<Origin> run_origins(const Config& config, const RunFolder& folder,
                                const Communicator& world);

// What the consumption log says at every start beside the plan: from which configuration it was
// made, under which rights, on what.
nlohmann::json log_details(const Config& config, const RunFolder& folder,
                           const std::vector<Origin>& origins);

}  // namespace pendulum
