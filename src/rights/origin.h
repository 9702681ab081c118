// Where the parts come from that shape a model without being its data: base weights, codec,
// encoders of text and image.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "rights/policy.h"

namespace pendulum {

struct Origin {
  std::string part;  // "model", "codec", "text" or "image"
  std::string what;  // for people: "weights from published/", "minilm"
  bool is_own =
      false;  // made by this program from the run's seed or by rule: nobody else's weights
  bool is_declared = false;
  OriginConfig declared;  // in rights.origins, or known to this program
  std::string denied;     // why the policy denies it; empty: it does not
};

// Of the parts that a configuration names, each judged: by rights.origin_policy where there is one,
// else as samples are. Fresh weights and the Haar codec are this program's own; all-MiniLM-L6-v2 as
// `text.weights: auto` finds it is known. Under rights.licensed_only an undeclared or denied origin
// is a ConfigError that says which key to write.
std::vector<Origin> judge_origins(const Config& config, Date as_of);

// One line: "text minilm: Apache-2.0, held by ...", "model weights from x: undeclared".
std::string describe(const Origin& origin);

// As checkpoints, exports and the log hold it; origin_from_json throws DataError naming `where`.
nlohmann::json to_json(const Origin& origin);
Origin origin_from_json(const nlohmann::json& object, const std::string& where);

}  // namespace pendulum
